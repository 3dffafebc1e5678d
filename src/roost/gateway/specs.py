"""What an author declared of a revision, for the data plane: revisions never change, so each is read once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from roost.core.model import Revision
from roost.wire.spec import AppSpec

_KEPT: Final = 512


class Specs:
    def __init__(self, revision: Callable[[str], Awaitable[Revision | None]]) -> None:
        self._revision = revision
        self._known: OrderedDict[str, AppSpec] = OrderedDict()

    def known(self, revision_id: str) -> AppSpec | None:
        """The same, if it was read already."""
        return self._known.get(revision_id)

    async def of(self, revision_id: str) -> AppSpec | None:
        """None: there is no such revision (any more)."""
        known = self._known.get(revision_id)
        if known is not None:
            return known
        revision = await self._revision(revision_id)
        if revision is None:
            return None
        self._known[revision_id] = revision.spec
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return revision.spec
