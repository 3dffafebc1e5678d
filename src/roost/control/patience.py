"""Streams that outlive a restart of the server: attach again for a while before giving up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TypeVar

from roost.control.errors import ControlError, LostContact, Unreachable

T = TypeVar("T")

ATTACH_AGAIN_S = 20.0
"""A server that crashes at its start is started again for the last time after 5 s, and a busy machine takes seconds to load it."""
PAUSE_S = 0.25
STEADY_S = 2.0
"""A stream that broke sooner than this after it was attached was not mended."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The stream broke; `attach` is being tried again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Mended:
    """The stream is there again."""


def with_patience(
    attach: Callable[[], Iterator[T]],
    *,
    clock: Callable[[], float] = monotonic,
    pause: Callable[[float], None] = sleep,
) -> Iterator[T | Broken | Mended]:
    """The items of `attach()`; when it breaks, those of another `attach()`, tried for up to ATTACH_AGAIN_S.

    `attach` returns when the server has begun to answer. The first one has no second chance: a server that is not there should
    be said at once. A break says Broken once, and Mended when the stream is there again.
    """
    stream = attach()
    attached, broken = clock(), None
    while True:
        try:
            yield from stream
            return
        except ControlError as exc:
            if not _may_pass(exc):
                raise
            if broken is None or clock() - attached >= STEADY_S:
                broken = clock()
            elif clock() - broken >= ATTACH_AGAIN_S:
                raise
            reason = exc
        finally:
            _close(stream)
        yield Broken(reason.detail)
        stream = _attach_again(attach, broken + ATTACH_AGAIN_S, clock, pause)
        attached = clock()
        yield Mended()


def _attach_again(
    attach: Callable[[], Iterator[T]], until: float, clock: Callable[[], float], pause: Callable[[float], None]
) -> Iterator[T]:
    while True:
        pause(PAUSE_S)
        try:
            return attach()
        except ControlError as exc:
            if not _may_pass(exc) or clock() >= until:
                raise


def _close(stream: Iterator[T]) -> None:
    close = getattr(stream, "close", None)
    if close is not None:
        close()


def _may_pass(exc: ControlError) -> bool:
    return isinstance(exc, (Unreachable, LostContact)) or exc.code == "server_stopping"
