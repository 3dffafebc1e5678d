"""The head of an answer that is written in one piece with its body, without uvicorn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

BODYLESS: Final = frozenset((204, 304))
"""Whoever reads an answer with one of these expects its end at the empty line."""
_WITH_BODY: Final = frozenset(status for status in STATUS_LINE if status >= 200 and status != 205) - BODYLESS
_ACTED_UPON: Final = frozenset((b"content-length", b"transfer-encoding", b"connection"))
_CONTROLS: Final = bytes((*range(32), 127))


def answer_head(status: int, headers: Iterable[tuple[bytes, bytes]], size: int) -> bytes | None:
    """The head as uvicorn would write it, with the empty line after it. None: leave this answer to uvicorn.

    That is one without a body of just `size` bytes, with a field that HTTP itself acts upon, or with one that cannot be sent.
    """
    if status not in _WITH_BODY:
        return None
    lines = [STATUS_LINE[status][:-2]]
    declared: bytes | None = None
    for name, value in headers:
        if name == b"content-length" and declared is None:
            declared = value
        elif name in _ACTED_UPON:
            return None
        lines.append(name + b": " + value)
    head = b"\r\n".join(lines)
    # A control character in a field would be another field, or another answer (faults.md S-28): uvicorn refuses it.
    if declared != b"%d" % size or len(head) - len(head.translate(None, _CONTROLS)) != 2 * (len(lines) - 1):
        return None
    return head + b"\r\n\r\n"
