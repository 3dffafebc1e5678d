"""What can go wrong with the store, in words for whoever runs the server.

Every one means: of this one write nothing was promised. The next write may well succeed; nothing has to be reopened.
"""

from __future__ import annotations

from roost.wire.errors import RoostError


class StoreError(RoostError):
    """The store could not do this."""

    def __init__(self, detail: str, *, hint: str = "", code: str = "internal_error", status: int = 503) -> None:
        super().__init__(code, detail, hint=hint, status=status)


class DiskTrouble(StoreError):
    """The disk is full or failing. Whatever was written together got this error, each caller its own."""


class DatabaseBusy(StoreError):
    """Another process held the database for longer than we wait."""


class DatabaseUnusable(StoreError):
    """The file is not a database, is damaged, or may not be opened."""


class UnsuitableFolder(StoreError):
    """The database lies where SQLite cannot keep its promises: on a network file system."""


class SchemaTooNew(StoreError):
    """The database was written by a newer roost."""


class StoreClosed(StoreError):
    """Something was asked of a store that is closed."""


class Violation(StoreError):
    """A write names something that does not exist, or makes a second one of what there is one of."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, code="conflict", status=409)
