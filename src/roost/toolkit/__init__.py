"""Values that authors use in their endpoints. Runs in the author's environment."""
