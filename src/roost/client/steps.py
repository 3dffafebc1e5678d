"""What a flow asks of whoever drives it, and what it hears back.

A flow (flows.py) is a generator: it yields a step, is sent the reply, and returns its result. It does no IO and never waits, so the same
flow serves the blocking and the asynchronous client, and a test is a list of replies.

| step | reply |
|---|---|
| Send | Answer or Broken |
| Listen | Answer or Broken; an Answer of 2xx has no content yet, its body is open for More |
| More | the next bytes of the open body (b"" at its end) or Broken |
| HangUp, Pause, Emit | None |
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """One HTTP exchange."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    content: bytes = field(default=b"", repr=False)
    timeout_s: float | None = None
    """How long to wait for the answer to begin, and for each piece of it; None: as long as it takes."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Send this and leave the answer's body open."""

    send: Send


@dataclass(frozen=True, slots=True)
class More:
    """Wait for the next bytes of the open body."""


@dataclass(frozen=True, slots=True)
class HangUp:
    """Close the open body."""


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    """Give this to the caller: one of several values of a flow that goes on."""

    value: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `headers` by lower-case name."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes = field(default=b"", repr=False)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code < 300

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> Any:
        """The body as JSON. Raises ValueError if it is something else."""
        return json.loads(self.content)

    def value(self) -> Any:
        """The body as its content type says: JSON parsed, text as str, anything else as bytes; None if there is none."""
        kind = self.content_type
        if not self.content:
            return None
        if kind == "application/json" or kind.endswith("+json"):
            return self.json()
        return self.content.decode(errors="replace") if kind.startswith("text/") else self.content


class How(str, Enum):
    """How an exchange broke, as far as it matters for trying again."""

    REFUSED = "refused"
    """No connection came about: nobody has seen the request."""
    SILENT = "silent"
    """No answer in time; whether the request was carried out is not known."""
    CUT = "cut"
    """The connection broke; whether the request was carried out is not known."""
    WRONG = "wrong"
    """It cannot be sent at all, such as an address that is none."""


@dataclass(frozen=True, slots=True)
class Broken:
    how: How
    text: str


Step = Send | Listen | More | HangUp | Pause | Emit
Reply = Answer | Broken | bytes | None
Flow = Generator[Step, Any, T]
