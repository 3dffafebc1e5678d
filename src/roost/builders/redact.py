"""Takes credentials out of text that people will read: build output is kept, streamed and shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_USERINFO: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/@'\"`<>]+@")
# Signed addresses carry their secret in the query.
_QUERY: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s?#'\"`<>()]+)\?[^\s#'\"`<>()]+")
_SECRET_NAMES: Final = ("PASSWORD", "TOKEN", "SECRET")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with user names, passwords and queries of URLs, and these secrets, as `****`."""
    for secret in secrets:
        text = text.replace(secret, "****")
    return _QUERY.sub(r"\1?****", _USERINFO.sub(r"\1****@", text))


def secrets_in(environ: dict[str, str]) -> tuple[str, ...]:
    """Values of variables that are secrets by their name (UV_INDEX_PRIVATE_PASSWORD, ...), longest first."""
    # Under four characters would blank out ordinary words.
    found = {value for name, value in environ.items() if len(value) >= 4 and any(word in name.upper() for word in _SECRET_NAMES)}
    return tuple(sorted(found, key=len, reverse=True))
