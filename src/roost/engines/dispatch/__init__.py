"""Queued requests to runners and back: the engine, and one attempt at a time."""
