"""The embedded database: SQLite through apsw, in WAL mode with a sync to disk at each commit, and with group commit.

One writer; whatever queued up while it was busy is committed together, with one sync (ARCHITECTURE §7). Quick works run on the event loop up to
their commit, the others, and each commit, in the writer's thread (`lanes.CommitLane`). When a work fails by itself, all of
its batch are run again, each in a savepoint of its own. Readers have read-only connections and never wait for the writer. `:memory:` is the same code with one connection on the event loop.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# apsw's stubs name `collections.abc.Buffer`, which Python 3.10 and 3.11 do not have.

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw

from roost.kit import failpoints
from roost.kit.failpoints import FailpointError, failpoint
from roost.store import places
from roost.store.driver import Args, Read, Row, Stats, T, Value, Write, Writing
from roost.store.errors import DatabaseBusy, DatabaseUnusable, DiskTrouble, StoreError, Violation
from roost.store.lanes import CommitLane, Done, Failed, Lane, LoopLane, Outcome, ThreadLane, Work
from roost.store.wal import LogKeeper

MEMORY = ":memory:"
BUSY_MS = 5_000
READERS = 2
READ_S = 10.0
"""A read may last so long; after that it is ended if it keeps the log from being shortened."""
TOGETHER = 512
"""At most so many writes share a commit, so that the first of them does not wait for ever longer batches."""

_OUT_OF_ORDER = (apsw.FullError, apsw.IOError, apsw.NoMemError, apsw.CorruptError, apsw.NotADBError, apsw.ReadOnlyError)
"""The database, not the statement, is in trouble. SQLite may have rolled back all of the transaction, so all in it must be told."""


class SqliteDriver:
    """A `Driver` on one SQLite file, or on memory. Made by `SqliteDriver.open`."""

    def __init__(self, name: str, writer: Writer, writes: Lane, reads: Lane) -> None:
        self.name = name
        self._writer = writer
        self._writes = writes
        self._reads = reads

    @classmethod
    async def open(cls, path: Path | str, *, readers: int = READERS) -> SqliteDriver:
        """Open the database, which is made if it is not there. Raises a `StoreError` that says why it cannot be used."""
        if str(path) == MEMORY:
            return cls.alone(MEMORY, apsw.Connection(MEMORY))
        path = Path(path)
        # Recovery after a crash reads the whole log, and another process may have to be waited for.
        writer, snapshots = await asyncio.to_thread(_open_file, path, readers)
        return cls(str(path), writer, CommitLane("store-writer", writer, TOGETHER), ThreadLane("store-reader", snapshots, 1))

    @classmethod
    def alone(cls, name: str, connection: apsw.Connection) -> SqliteDriver:
        """All on this one connection, and on the event loop that runs: for databases that nothing has to wait for."""
        _prepare(connection, read_only=False)
        writer = Writer(connection)
        return cls(name, writer, LoopLane(writer), LoopLane(Guest(connection)))

    async def write(self, work: Write[T], point: str, *, quick: bool = False) -> T:
        if not failpoints.PLANNED:
            return await self._writes.do(work, quick=quick)
        return await _with_failpoints(self._writes, work, point, quick)

    async def read(self, work: Read[T]) -> T:
        return await self._reads.do(work)

    def stats(self) -> Stats:
        return Stats(self._writer.writes, self._writer.commits)

    async def close(self) -> None:
        # Readers first: the last connection to close folds the log into the file, and that needs one that may write.
        await self._reads.close()
        await self._writes.close()


async def _with_failpoints(writes: Lane, work: Write[T], point: str, quick: bool) -> T:
    def inside(tx: Writing) -> T:
        value = work(tx)
        failpoint(f"{point}:inside")
        return value

    try:
        failpoint(f"{point}:before")
        value = await writes.do(inside, quick=quick)
        failpoint(f"{point}:after")
    except FailpointError as error:
        # What callers must be able to bear: an error that says nothing about whether the write happened.
        raise DiskTrouble("The server cannot say whether it stored this.", hint="Ask again.") from error
    return value


class Writer:
    """Commits works together. All or none of a batch is on disk, except those works that failed by themselves."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.writes = 0
        self.commits = 0
        self._cursor = connection.cursor()
        self._tx = Tx(connection)

    def run(self, works: Sequence[Work]) -> list[Outcome]:
        try:
            return self._end(self._works(works))
        except Exception as error:
            return self._lost(works, error)

    def begin(self, works: Sequence[Work]) -> list[Outcome] | None:
        # Not even for a moment: the event loop would stand still.
        self.connection.set_busy_timeout(0)
        try:
            return self._works(works)
        except apsw.BusyError:
            self._give_up()
            return None
        except Exception as error:
            return self._lost(works, error)
        finally:
            self.connection.set_busy_timeout(BUSY_MS)

    def commit(self, outcomes: list[Outcome]) -> list[Outcome]:
        try:
            return self._end(outcomes)
        except Exception as error:
            return self._lost(outcomes, error)

    def _works(self, works: Sequence[Work]) -> list[Outcome]:
        outcomes = self._together(works)
        return self._apart(works) if outcomes is None else outcomes

    def _end(self, outcomes: list[Outcome]) -> list[Outcome]:
        # There is none if the only work of a batch failed, or the batch is lost.
        if self.connection.in_transaction:
            self._cursor.execute("COMMIT")
            self.commits += 1
            self.writes += len(outcomes)
        return outcomes

    def _lost(self, works: Sequence[object], error: Exception) -> list[Outcome]:
        """The batch is lost, and each caller must hear it; a writer that dies would leave them waiting."""
        self._give_up()
        return [Failed(in_words(error)) for _ in works]

    def _together(self, works: Sequence[Work]) -> list[Outcome] | None:
        """Run them as if none could fail. None: one failed by itself, and nothing of them all is left."""
        self._cursor.execute("BEGIN IMMEDIATE")
        outcomes: list[Outcome] = []
        for work in works:
            try:
                outcomes.append(Done(work(self._tx)))
            except _OUT_OF_ORDER:
                raise
            except Exception as error:
                self._cursor.execute("ROLLBACK")
                return [Failed(in_words(error))] if len(works) == 1 else None
        return outcomes

    def _apart(self, works: Sequence[Work]) -> list[Outcome]:
        """Run those that do not fail. Twice the statements: each savepoint also keeps the pages that are changed after it."""
        self._cursor.execute("BEGIN IMMEDIATE")
        return [self._one(work) for work in works]

    def _one(self, work: Work) -> Outcome:
        self._cursor.execute("SAVEPOINT work")
        try:
            value = work(self._tx)
        except _OUT_OF_ORDER:
            raise
        except Exception as error:
            self._cursor.execute("ROLLBACK TO work")
            self._cursor.execute("RELEASE work")
            return Failed(in_words(error))
        self._cursor.execute("RELEASE work")
        return Done(value)

    def _give_up(self) -> None:
        try:
            if self.connection.in_transaction:
                self._cursor.execute("ROLLBACK")
        except apsw.Error:
            # SQLite has rolled back by itself, or will when the next BEGIN fails and we come here again.
            pass

    def close(self) -> None:
        self.connection.close()


class Reader:
    """Runs each work on a snapshot of its own."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._tx = Tx(connection)
        self._since_s: float | None = None
        """When the work under way began."""

    def end_if_long(self, limit_s: float = READ_S) -> bool:
        """From another thread: interrupt a statement of a work that has lasted for so long. Its caller gets a StoreError."""
        since_s = self._since_s
        if since_s is None or time.monotonic() - since_s < limit_s:
            return False
        self._connection.interrupt()
        return True

    def run(self, works: Sequence[Work]) -> list[Outcome]:
        return [self._one(work) for work in works]

    def _one(self, work: Work) -> Outcome:
        self._since_s = time.monotonic()
        try:
            self._connection.execute("BEGIN")
            try:
                return Done(work(self._tx))
            finally:
                self._connection.execute("ROLLBACK")
        except Exception as error:
            return Failed(in_words(error))
        finally:
            self._since_s = None

    def close(self) -> None:
        self._connection.close()


class Guest(Reader):
    """A reader on the writer's connection, which it leaves open."""

    def close(self) -> None:
        pass


class Tx:
    """`Reading` and `Writing` on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        # One for all statements: each is read to its end before the next one begins.
        self._cursor = connection.cursor()

    def rows(self, sql: str, args: Args | None = None) -> list[Row]:
        cursor = self._execute(sql, args)
        first = next(cursor, None)
        if first is None:
            return []
        names = [column[0] for column in cursor.get_description()]
        return [dict(zip(names, row, strict=True)) for row in (first, *cursor)]

    def row(self, sql: str, args: Args | None = None) -> Row | None:
        # To its end, not one step: a statement with RETURNING that is left half-way would stay open.
        return next(iter(self.rows(sql, args)), None)

    def records(self, sql: str, args: Args | None = None) -> list[tuple[Any, ...]]:
        return self._execute(sql, args).fetchall()

    def record(self, sql: str, args: Args | None = None) -> tuple[Any, ...] | None:
        found = self._execute(sql, args).fetchall()
        return found[0] if found else None

    def run(self, sql: str, args: Args | None = None) -> int:
        self._execute(sql, args)
        return self._connection.changes()

    def script(self, sql: str) -> None:
        self._execute(sql, None)

    def _execute(self, sql: str, args: Args | None) -> apsw.Cursor:
        try:
            return self._cursor.execute(sql, args)
        except UnicodeEncodeError:
            # A traceback may hold half a character (a file name that is no UTF-8). Losing it is better than losing the reason.
            return self._cursor.execute(sql, _whole(args))


def in_words(error: Exception) -> Exception:
    """The `StoreError` for an error of SQLite, caused by it. Other errors are the work's own and stay as they are."""
    if not isinstance(error, apsw.Error):
        return error
    told = _told(error)
    told.__cause__ = error
    return told


def _told(error: apsw.Error) -> StoreError:
    match error:
        case apsw.FullError():
            return DiskTrouble(
                "The server cannot store anything: its disk is full.", hint="Make room on the disk of ROOST_HOME and ask again."
            )
        case apsw.IOError() | apsw.NoMemError():
            return DiskTrouble(
                f"The server cannot store anything: its disk fails ({error}).", hint="Look at the disk of ROOST_HOME and ask again."
            )
        case apsw.BusyError() | apsw.LockedError():
            return DatabaseBusy(
                f"Another process has held the database for {BUSY_MS / 1000:g} s.",
                hint="End whatever else has roost.db open and ask again.",
            )
        case apsw.InterruptError():
            return DatabaseBusy("This read took too long and was ended: it held up the server's writes.", hint="Ask for less at once.")
        case apsw.CorruptError() | apsw.NotADBError():
            return DatabaseUnusable(
                f"The database is damaged or is no SQLite database ({error}).",
                hint="Stop the server and put a backup in place of roost.db.",
            )
        case apsw.CantOpenError() | apsw.ReadOnlyError() | apsw.PermissionsError() | apsw.AuthError():
            return DatabaseUnusable(
                f"The database may not be opened or written ({error}).",
                hint="The folder and roost.db must belong to the user of the server.",
            )
        case apsw.ConstraintError():
            return Violation(f"The store's rules forbid this write: {error}.")
        case _:
            return StoreError(f"The database refused a statement: {error}.", hint="This is a bug in roost: please report it.", status=500)


def _open_file(path: Path, readers: int) -> tuple[Writer, list[Reader]]:
    places.refuse_network(path)
    _make_private(path)
    opened: list[apsw.Connection] = []
    try:
        opened.append(_connect(str(path)))
        opened.extend(_connect(str(path), read_only=True) for _ in range(readers))
    except apsw.Error as error:
        for connection in reversed(opened):
            connection.close()
        raise in_words(error) from error
    snapshots = [Reader(connection) for connection in opened[1:]]
    opened[0].set_wal_hook(LogKeeper(BUSY_MS, lambda: sum(reader.end_if_long() for reader in snapshots)))
    return Writer(opened[0]), snapshots


def _make_private(path: Path) -> None:
    """Make the file with mode 0600 (SQLite gives its log the same) and its name durable, if it is not there."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            failpoint("store.make")
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise DatabaseUnusable(
            f"The database {path} cannot be opened: {error.strerror}.", hint="The folder must exist and belong to the user of the server."
        ) from error


def _connect(name: str, *, read_only: bool = False) -> apsw.Connection:
    mode = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(name, flags=mode)
    try:
        _prepare(connection, read_only)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: apsw.Connection, read_only: bool) -> None:
    connection.set_busy_timeout(BUSY_MS)
    connection.execute("PRAGMA foreign_keys = ON")
    if not read_only:
        connection.execute("PRAGMA journal_mode = WAL")  # stays "memory" for :memory:
        connection.execute("PRAGMA synchronous = FULL")
        # A burst may make the log long; without this it would keep that length on disk for ever.
        connection.execute("PRAGMA journal_size_limit = 67108864")
        # The ids of requests are as scattered as can be: each submit changes another page of their index.
        connection.execute("PRAGMA cache_size = -32768")
    # Makes SQLite read the header, so that a file which is no database is refused here and not at the first call.
    connection.execute("SELECT count(*) FROM sqlite_schema")


def _whole(args: Args | None) -> Args | None:
    match args:
        case None:
            return None
        case Mapping():
            return {key: _readable(value) for key, value in args.items()}
        case _:
            return tuple(_readable(value) for value in args)


def _readable(value: Value) -> Value:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
