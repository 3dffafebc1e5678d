"""What runs inside a runner, in the author's environment: standard library, `wire`, `sdk`, and the FastAPI that the author chose."""
