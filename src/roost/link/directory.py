"""Who is connected: the runners that this gateway can send calls to, and how many calls each has from here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from roost.link.connection import CallConnection

_DOUBTED_MS: Final = 10_000
REMEMBERED: Final = 16
"""Hints that are remembered of a runner: more than it is likely to have at hand."""


@dataclass(slots=True)
class Entry:
    """One connected runner. `in_flight` counts this gateway's calls only; the runner itself is the judge of its slots."""

    runner_id: str
    revision_id: str
    slots: int
    connection: CallConnection
    draining: bool = False
    in_flight: int = 0
    held: int = 0
    """Calls under way here that a server before this one sent: they take slots, and the runner must live until they end."""
    served: int = 0
    ready_ms: int = 0
    idle_since_ms: int = 0
    refusing: bool = False
    """It answered BUSY: calls of other gateways, or its drain, take its slots. Asked again after a moment."""
    doubted_until_ms: int = 0
    """It answered BUSY lately, so that what is known here of its slots may be wrong."""
    frozen: bool = False
    """Its process is stopped by a signal: a call would wait for nothing."""
    hints: tuple[str, ...] = ()
    """What its last response reported (`X-Fal-Runner-Hints`)."""
    remembered: dict[str, None] = field(default_factory=dict[str, None])
    """Hints of the calls that it was sent lately, the newest last; see `remember`."""

    @property
    def id(self) -> str:
        return self.runner_id

    @property
    def free(self) -> int:
        """Calls it would take now, as far as this gateway knows; 0 when it takes none."""
        if self.draining or self.refusing or self.frozen or self.connection.going_away:
            return 0
        return self.slots - self.in_flight - self.held

    def remember(self, hint: str) -> None:
        """It was sent a call with this hint."""
        self.remembered.pop(hint, None)
        self.remembered[hint] = None
        if len(self.remembered) > REMEMBERED:
            del self.remembered[next(iter(self.remembered))]

    def is_doubted(self, now_ms: int) -> bool:
        """Whether it should be asked for a slot before anything rests on it."""
        return now_ms < self.doubted_until_ms

    @property
    def busy(self) -> int:
        """Calls under way, whoever sent them."""
        return self.in_flight + self.held


@dataclass(slots=True)
class Directory:
    """Connected runners by revision. Tells its listeners when a slot may have become free and when the set changes."""

    _by_revision: dict[str, list[Entry]] = field(default_factory=dict[str, list[Entry]])
    _by_runner: dict[str, Entry] = field(default_factory=dict[str, Entry])
    on_free: Callable[[str], None] = lambda revision_id: None
    """A slot of this revision may be free."""
    on_change: Callable[[str], None] = lambda runner_id: None
    """This runner connected, was lost, or goes away."""
    on_idle: Callable[[str], None] = lambda runner_id: None
    """Its last call has ended. With one caller this is every call."""

    def add(self, runner_id: str, revision_id: str, slots: int, connection: CallConnection, now_ms: int, held: int = 0) -> Entry:
        """A runner is ready. A newer connection of the same runner takes the older one's place for new calls."""
        old = self._by_runner.get(runner_id)
        if old is not None:
            self._forget(old)
        entry = Entry(runner_id, revision_id, slots, connection, held=held, ready_ms=now_ms, idle_since_ms=now_ms)
        if old is not None:
            entry.served, entry.ready_ms = old.served, old.ready_ms
            entry.hints, entry.remembered = old.hints, old.remembered
        self._by_runner[runner_id] = entry
        self._by_revision.setdefault(revision_id, []).append(entry)
        self.on_change(runner_id)
        self.on_free(revision_id)
        return entry

    def lost(self, connection: CallConnection) -> None:
        entry = self._by_runner.get(connection.runner_id)
        if entry is not None and entry.connection is connection:
            self._forget(entry)
            self.on_change(entry.runner_id)

    def going_away(self, connection: CallConnection) -> None:
        entry = self._by_runner.get(connection.runner_id)
        if entry is not None and entry.connection is connection:
            entry.draining = True
            self.on_change(entry.runner_id)

    def holds(self, connection: CallConnection, calls: int, now_ms: int) -> None:
        """So many calls of earlier servers are under way there."""
        entry = self._by_runner.get(connection.runner_id)
        if entry is not None and entry.connection is connection:
            entry.held = calls
            if entry.busy == 0:
                entry.idle_since_ms = now_ms
            self.on_change(entry.runner_id)
            self.on_free(entry.revision_id)

    def took_over(self, connection: CallConnection) -> None:
        """A call under way there was resumed: it is one of this gateway's now, with the slot that it held."""
        entry = self._by_runner.get(connection.runner_id)
        if entry is not None and entry.connection is connection:
            entry.held = max(0, entry.held - 1)
            entry.in_flight += 1

    def ended(self, connection: CallConnection, now_ms: int) -> None:
        """A resumed call's slot is free again."""
        entry = self._by_runner.get(connection.runner_id)
        if entry is not None and entry.connection is connection:
            self.gave_back(entry, now_ms)

    def drain(self, runner_id: str) -> None:
        """Send this runner nothing more."""
        entry = self._by_runner.get(runner_id)
        if entry is not None:
            entry.draining = True

    def freeze(self, runner_id: str, frozen: bool) -> None:
        """Its process was stopped by a signal, or goes on again."""
        entry = self._by_runner.get(runner_id)
        if entry is not None:
            entry.frozen = frozen
            self.on_free(entry.revision_id)

    def get(self, runner_id: str) -> Entry | None:
        return self._by_runner.get(runner_id)

    def of_revision(self, revision_id: str) -> list[Entry]:
        return self._by_revision.get(revision_id, [])

    def all(self) -> Iterable[Entry]:
        return self._by_runner.values()

    def took(self, entry: Entry) -> None:
        """A call is sent to this runner."""
        entry.in_flight += 1
        entry.served += 1

    def not_used(self, entry: Entry) -> None:
        """The slot that was taken a moment ago has no use after all. Nobody is told: who would come was asked already."""
        entry.in_flight -= 1
        entry.served -= 1

    def refused(self, entry: Entry, now_ms: int) -> None:
        """It answered BUSY: nothing of the call ran there, and the next would fare no better now."""
        entry.refusing = True
        entry.doubted_until_ms = now_ms + _DOUBTED_MS
        entry.served -= 1

    def gave_back(self, entry: Entry, now_ms: int) -> None:
        """A call's slot is free again."""
        entry.in_flight -= 1
        if entry.busy == 0:
            entry.idle_since_ms = now_ms
            (self.on_change if entry.draining else self.on_idle)(entry.runner_id)
        self.on_free(entry.revision_id)

    def _forget(self, entry: Entry) -> None:
        self._by_runner.pop(entry.runner_id, None)
        entries = self._by_revision.get(entry.revision_id)
        if entries is not None and entry in entries:
            entries.remove(entry)
            if not entries:
                del self._by_revision[entry.revision_id]
