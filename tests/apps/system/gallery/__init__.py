"""A package: all of it travels with the class that is defined in it."""
