"""What a fake runner does: how its start goes, and what it answers. Times are milliseconds of the loop's clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from roost.wire.frames import RequestHead

FOREVER: Final = 10**12
"""Longer than any test."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, and how long its parts take."""

    status: int = 200
    body: bytes = b"ok"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    after_ms: int = 0
    """From the request to the head of the response."""
    stream_ms: int = 0
    """From the head to the end of the body."""
    linger_ms: int = 0
    """From the end of the response to the end of the code: the slot is taken until then."""
    minds_caller: bool = False
    """The handler ends when its caller goes; else it runs to its end."""


@dataclass(frozen=True, slots=True)
class Crash:
    """The process dies during the call, by a signal."""

    after_ms: int = 0
    head_first: bool = False
    """The head of a response has gone out before."""
    signal: int = 11


@dataclass(frozen=True, slots=True)
class Received:
    """One call as the runner got it."""

    runner_id: str
    head: RequestHead
    body: bytes
    at_ms: int
    bypass: bool
    """It took no slot."""

    @property
    def path(self) -> str:
        return self.head.path.decode("latin-1")

    @property
    def request_id(self) -> str:
        return self.header("x-fal-request-id")

    def header(self, name: str) -> str:
        """The first value of a field; "" without it."""
        return next((value.decode("latin-1") for key, value in self.head.headers if key == name.encode()), "")


Handler = Callable[[Received], Answer | Crash]


def always(reply: Answer | Crash) -> Handler:
    return lambda call: reply


PLAIN: Final = always(Answer())


Health = Callable[[int], Answer]
"""What the nth health check of a runner is answered, the first being 0; only status and `after_ms` matter."""


def healthy(nth: int) -> Answer:
    return Answer()


@dataclass(frozen=True, slots=True)
class Script:
    """One runner, from its start to its end."""

    answer: Handler = PLAIN
    start_error: str = ""
    """Its process cannot be started."""
    load_ms: int = 100
    """Until the class is loaded."""
    setup_ms: int = 900
    setup_error: str = ""
    """What setup() raises at its end."""
    dies_in_setup: int | None = None
    """The signal that ends it when setup() would have ended."""
    ignores_sigterm: bool = False
    holds_loop: bool = False
    """The app's event loop answers no ping, and no health check."""
    health: Health = healthy
    knows_health: bool = True
    """False: it is of a version that cannot be asked for its health, and takes calls when setup() has ended."""
    goes_away_on_sigterm: bool = True
    """False: it takes SIGTERM as its end, without a word and without waiting for its calls."""
