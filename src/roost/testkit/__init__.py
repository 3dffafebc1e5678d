"""What tests stand on: a virtual clock, doubles that pass the contract tests, a whole server in a test."""
