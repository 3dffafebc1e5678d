"""httpx without its own command line, which it would import along: Rich, click and Pygments, 300 of 450 ms of every command's start."""

from __future__ import annotations

import sys

_COMMAND_LINE = "httpx._main"

if "httpx" not in sys.modules:
    # None makes the import fail, which httpx is ready for: it is what happens where click is not installed.
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment]
    try:
        import httpx
    finally:
        del sys.modules[_COMMAND_LINE]
else:
    import httpx

__all__ = ["httpx"]
