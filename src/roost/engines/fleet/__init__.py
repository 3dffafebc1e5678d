"""The runners of every app: the engine, what it knows of them, and how one is started."""
