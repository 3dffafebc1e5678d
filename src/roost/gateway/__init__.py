"""Data plane: resolves a call's app, lets it wait for a slot, carries it over the link."""
