"""Loops that bring the world to what the store says. They never import each other and meet only in the store."""
