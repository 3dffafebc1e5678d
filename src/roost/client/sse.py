"""Server-sent events out of bytes that arrive in any pieces."""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\n|\r(?!$)")  # a CR that is last may be half of a CRLF


class Events:
    """Feed it bytes; each event's `data` comes out once it is whole. Names, ids and comments of events mean nothing here."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[str]:
        """The data of the events that `chunk` completed."""
        *lines, self._rest = _LINE_END.split(self._rest + chunk)
        whole: list[str] = []
        for line in lines:
            if not line:
                if self._data:
                    whole.append(b"\n".join(self._data).decode(errors="replace"))
                    self._data = []
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
        return whole
