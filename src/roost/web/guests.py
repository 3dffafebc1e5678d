"""How many connections each address has, so that one of them cannot take all that a server has (faults.md S-25)."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

from roost.kit import log


class Guests:
    """Counts connections by their other end. `limit` 0: there is none. `exempt` are addresses that speak for many, such as proxies."""

    def __init__(self, limit: int = 0, exempt: Callable[[str], bool] = lambda address: False) -> None:
        self._limit = limit
        self._exempt = exempt
        self._here: Counter[str] = Counter()
        self._told: set[str] = set()

    def come(self, address: str) -> bool:
        """One more connection; it counts until it `go`es. False: that is too many, close it."""
        if not self._limit or self._exempt(address):
            return True
        home = _home(address)
        self._here[home] += 1
        if self._here[home] <= self._limit:
            return True
        if home not in self._told:
            # Once, until there is room again: whoever floods us must not flood the log.
            self._told.add(home)
            log.warning(
                "connections.refused",
                address=home,
                limit=self._limit,
                hint="trusted_proxies exempts a proxy, max_connections_per_address is the limit.",
            )
        return False

    def go(self, address: str) -> None:
        """One that came is gone."""
        if not self._limit or self._exempt(address):
            return
        home = _home(address)
        self._here[home] -= 1
        if self._here[home] < self._limit:
            self._told.discard(home)
        if self._here[home] <= 0:
            del self._here[home]


@lru_cache(4096)
def _home(address: str) -> str:
    """Whose an address is: whoever has one of IPv6 has the whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
