"""httpx without its own command line, which it would import along: Rich, click and Pygments, 300 of 450 ms of every command's start."""

from __future__ import annotations

import sys

from roost.client.errors import ClientError

_COMMAND_LINE = "httpx._main"

if "httpx" not in sys.modules:
    # None makes the import fail, which httpx is ready for: it is what happens where click is not installed.
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]
    try:
        import httpx
    except ModuleNotFoundError as missing:
        # In a runner only what the app asked for is installed.
        raise ClientError("Calling other apps needs the package httpx.", hint="Add 'httpx' to the app's requirements.") from missing
    finally:
        del sys.modules[_COMMAND_LINE]
else:
    import httpx

__all__ = ["httpx"]
