"""The file `app.pkl`: one line that says what it is, one line of JSON that a loader can trust and explain, then the pickle.

    roost-pickle 1\n
    {"python": "3.11", "cloudpickle": "3.1.2", "pydantic": "2.11.0", "class": "app:MyApp", "sources": {...}}\n
    <bytes of cloudpickle>

The header is read before anything is unpickled: a wrong Python or another cloudpickle ends in a sentence, not in a crash of the unpickler.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Final

MAGIC: Final = b"roost-pickle 1\n"


@dataclass(frozen=True, slots=True)
class Header:
    """What must be true of the process that unpickles."""

    python: str
    """major.minor of the author's interpreter."""
    cloudpickle: str
    pydantic: str
    """Exact version, or "" if the author's process never loaded pydantic: models do not load under another one."""
    class_name: str
    """"module:qualified name", for messages."""
    by_value: tuple[str, ...] = ()
    """Modules whose contents are in the pickle, each with all below it."""
    sources: dict[str, str] = field(default_factory=dict[str, str])
    """Text of the author's files by the name in their code objects, so that tracebacks and `inspect.getsource` work where the files are not."""


def pack(header: Header, body: bytes) -> bytes:
    return MAGIC + json.dumps(dataclasses.asdict(header)).encode() + b"\n" + body


def unpack(data: bytes) -> tuple[Header, bytes]:
    """Raises ValueError if these are not the bytes of an app.pkl that this version can read."""
    if not data.startswith(MAGIC):
        raise ValueError("this is not an app.pkl of a version that this runner can read")
    line, _, body = data[len(MAGIC) :].partition(b"\n")
    value: dict[str, Any] = json.loads(line)
    known = {item.name for item in dataclasses.fields(Header)}
    header = Header(**{name: item for name, item in value.items() if name in known})
    return dataclasses.replace(header, by_value=tuple(header.by_value)), body
