"""What the HTTP edges share: roles, auth, error answers, the HTTP protocol with its limits."""
