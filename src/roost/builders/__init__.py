"""Package environments, from a recipe to a complete folder on disk."""
