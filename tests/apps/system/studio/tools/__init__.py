"""Shipped as files."""
