"""Apps that ship with roost and run without downloading a model."""
