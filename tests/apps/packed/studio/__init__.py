"""A package of the author, with an app inside."""

from studio.config import SIZE

TITLE = f"studio {SIZE}"
