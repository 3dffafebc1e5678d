"""What a database must do for the store: run small functions of SQL, durably and together.

A *work* is a plain function of a transaction. It may run on another thread and shares its transaction with other works, so it does
nothing but SQL and arithmetic, and may be run again when another one failed. Parameters are always bound: named (`:id`), or by place (`?`) where a
statement runs thousands of times a second. `tests/contract/test_store.py` is what a driver must pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

Value = str | int | float | bytes | None
Args = Mapping[str, Value] | Sequence[Value]
Row = dict[str, Any]
"""One row by column names. It lives until the function of the aggregate that makes a frozen value of it."""


class Reading(Protocol):
    """A snapshot to read from."""

    def rows(self, sql: str, args: Args | None = None) -> list[Row]: ...

    def row(self, sql: str, args: Args | None = None) -> Row | None:
        """The first row, or None."""
        ...

    def records(self, sql: str, args: Args | None = None) -> list[tuple[Any, ...]]:
        """Rows as tuples in the order of their columns: several times cheaper than by name, for what is read all the time."""
        ...

    def record(self, sql: str, args: Args | None = None) -> tuple[Any, ...] | None: ...


class Writing(Reading, Protocol):
    """A transaction; what earlier statements of it did can be read."""

    def run(self, sql: str, args: Args | None = None) -> int:
        """Run one statement that changes rows and answer how many it changed."""
        ...

    def script(self, sql: str) -> None:
        """Run several statements without parameters: a migration."""
        ...


Read = Callable[[Reading], T]
Write = Callable[[Writing], T]


@dataclass(frozen=True, slots=True)
class Stats:
    """Since the driver was opened."""

    writes: int
    commits: int
    """Transactions that reached the disk; fewer than writes when they are grouped."""


class Driver(Protocol):
    name: str
    """What to call the database in a sentence: its path."""

    async def write(self, work: Write[T], point: str, *, quick: bool = False) -> T:
        """Run `work` and answer its result once that is on disk. `quick`: it is a few statements on rows found by a key, so that it may run on
        the event loop, which stands still meanwhile.

        `point` names the write, uniquely ("requests.claim"): there are failpoints `<point>:before` (nothing happened yet), `<point>:inside` (in
        the transaction, after the work) and `<point>:after` (on disk, before the caller hears). One that raises is a `StoreError` to the caller.
        What `work` raises undoes only `work` and reaches only this caller; trouble of the database itself is a `StoreError`. A caller that
        is cancelled while it waits gives up the answer, not the write.
        """
        ...

    async def read(self, work: Read[T]) -> T:
        """Run `work` on a snapshot that holds at least every write that was answered before this call."""
        ...

    def stats(self) -> Stats: ...

    async def close(self) -> None:
        """Finish what was handed over, then close. Closing twice is fine."""
        ...
