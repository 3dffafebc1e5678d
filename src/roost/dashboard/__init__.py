"""Pages for people; a client of the API without privileges of its own."""
