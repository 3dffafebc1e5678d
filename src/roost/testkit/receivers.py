"""Receivers of webhooks without sockets: what is sent to them, and how they answer, by host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from roost.kit.fetch import Fetched, FetchFailed, Limits, Refused
from roost.wire.frames import Headers


@dataclass(frozen=True, slots=True)
class Delivery:
    """One try, as the receiver got it."""

    at_ms: int
    url: str
    headers: dict[str, str]
    body: bytes

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def request_id(self) -> str:
        return str(self.json["request_id"])


@dataclass(frozen=True, slots=True)
class Says:
    """An answer, and how long it takes."""

    status: int = 200
    after_ms: int = 0


@dataclass(frozen=True, slots=True)
class Fails:
    """No answer: the connection is refused, or breaks."""

    sentence: str = "refused the connection"
    after_ms: int = 0


@dataclass(frozen=True, slots=True)
class IsRefused:
    """The address is one that is never dialled."""

    sentence: str = "10.0.0.1 is a private address"


Behaviour = Callable[[Delivery], "Says | Fails | IsRefused"]
OK: Final[Behaviour] = lambda delivery: Says()  # noqa: E731


class Receivers:
    """Takes the place of `kit.fetch.Fetcher`. A host that nobody spoke for answers 200 at once."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._behaviours: dict[str, Behaviour] = {}
        self.received: list[Delivery] = []
        """All tries that reached a receiver, also those that it did not answer."""
        self.begun: list[int] = []
        """When each try began, also those that reached nobody."""
        self.at_once: dict[str, int] = {}
        """By host: the most tries that were under way together."""
        self._under_way: dict[str, int] = {}

    def behaves(self, host: str, behaviour: Behaviour) -> None:
        self._behaviours[host] = behaviour

    def to(self, host: str) -> list[Delivery]:
        return [delivery for delivery in self.received if delivery.host == host]

    def of(self, request_id: str) -> list[Delivery]:
        return [delivery for delivery in self.received if delivery.request_id == request_id]

    async def fetch(self, method: str, url: str, headers: Headers | None = None, body: bytes = b"", limits: Limits = Limits()) -> Fetched:
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers or []}
        delivery = Delivery(self._now_ms(), url, fields, body)
        self.begun.append(delivery.at_ms)
        host = delivery.host
        says = self._behaviours.get(host, OK)(delivery)
        if isinstance(says, IsRefused):
            raise Refused(says.sentence)
        under_way = self._under_way[host] = self._under_way.get(host, 0) + 1
        self.at_once[host] = max(self.at_once.get(host, 0), under_way)
        try:
            if not isinstance(says, Fails):
                self.received.append(delivery)
            limit_ms = round(limits.total_s * 1000)
            await asyncio.sleep(min(says.after_ms, limit_ms) / 1000)
            if says.after_ms > limit_ms:
                raise FetchFailed(f"{host} gave no answer within {limits.total_s:g} s", timed_out=True)
            if isinstance(says, Fails):
                raise FetchFailed(f"{host} {says.sentence}")
        finally:
            self._under_way[host] -= 1
        return Fetched(says.status, [], b"", "192.0.2.7")

    def close(self) -> None:
        """Nothing is kept."""
