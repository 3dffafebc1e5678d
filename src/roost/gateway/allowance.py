"""How many direct calls a key may have under way at once (`max_concurrent_per_key`; GAPS A17, faults.md S-25).

It is for keys that were given to others: API keys. The owner's own, ADMIN keys and those of runners, have no limit. Queued requests wait in
their queue instead. Calls that count never go the short way, so that those which do not pay nothing for it.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Final

from roost.web.auth import Principal
from roost.wire.errors import RoostError

_UNCOUNTED: Final = contextlib.nullcontext()


class Allowance:
    """`limit` 0: there is none."""

    def __init__(self, limit: int = 0) -> None:
        self._limit = limit
        self._under_way: Counter[str] = Counter()

    def counts(self, principal: Principal | None) -> bool:
        """Whether this caller's calls are counted."""
        return self._limit > 0 and principal is not None and principal.scope == "API"

    def one_more(self, principal: Principal | None) -> contextlib.AbstractContextManager[None]:
        """A call under way. Raises RoostError `concurrent_requests_limit`."""
        return self._one_more(principal.key_id) if principal is not None and self.counts(principal) else _UNCOUNTED

    @contextlib.contextmanager
    def _one_more(self, key: str) -> Iterator[None]:
        if self._under_way[key] >= self._limit:
            error = RoostError(
                "concurrent_requests_limit",
                f"this key has {self._limit} direct calls under way, which is its limit",
                hint="Try again when one has ended, or send requests to the queue, where they wait.",
            )
            error.headers = ((b"x-fal-needs-retry", b"1"),)
            raise error
        self._under_way[key] += 1
        try:
            yield
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]
