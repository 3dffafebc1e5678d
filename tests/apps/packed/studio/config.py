import os

SIZE = int(os.environ.get("STUDIO_SIZE", "3"))
