"""What an app's past would have looked like with other settings (`roost simulate`)."""

from __future__ import annotations

import itertools
import math
from typing import Any, Final

from roost.api.aliases import own_alias
from roost.api.answer import Answer, Json
from roost.api.parts import ApiParts
from roost.api.request import Request
from roost.api.routes import Route
from roost.api.scale import change
from roost.core.model import Alias, Runner
from roost.core.whatif import UNKNOWN_COLD_MS, Lived
from roost.wire.errors import RoostError

MOST_VARIANTS: Final = 32
_MOST_LIVES: Final = 20_000
_DAY_MS: Final = 86_400_000
_USUAL: Final = tuple({"keep_alive": seconds} for seconds in (0, 10, 60, 300))
"""What is compared when nobody says."""
_NOT_SIMULATED: Final = ("request_timeout", "request_start_timeout", "machine_types")
"""Settings that change nothing in a replay."""


class SimulateCalls:
    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts
        self._store = parts.store

    def routes(self) -> tuple[Route, ...]:
        return (Route("POST", "/v1/apps/{owner}/{name}/simulate", self.simulate),)

    async def simulate(self, request: Request) -> Answer:
        """Replay the traffic of the last `last_s` with the present settings, and with each of the others that are asked for."""
        alias, body = await own_alias(self._store, request), await request.json()
        until_ms = self._parts.clock.now_ms()
        since_ms = until_ms - _last_ms(body.pop("last_s", 86_400))
        wished = _wished(body)
        variants = [change(alias.scale, wish, self._parts.about.machine_types).scale for wish in wished]
        lives = await self._lives(alias, since_ms)
        found = await self._parts.simulate(alias.application, since_ms, until_ms, lives, [alias.scale, *variants])
        present, *others = (_figures(item) for item in found["replayed"])
        return Json(
            {
                "application": alias.application,
                "since_ms": found["since_ms"],
                "until_ms": until_ms,
                "calls": found["recorded"]["calls"],
                "recorded": _figures(found["recorded"]),
                "simulated": present,
                "variants": [{"settings": wish, **figures} for wish, figures in zip(wished, others, strict=True)],
                "took_ms": found["took_ms"],
                "notes": self._notes(alias, since_ms, lives, wished, found),
            }
        )

    async def _lives(self, alias: Alias, since_ms: int) -> list[Lived]:
        """The app's runners of this time, and the living ones."""
        rows = [*await self._store.runners.ended_since(since_ms), *await self._store.runners.of_app(alias.owner, alias.name)]
        mine = {row.id: _lived(row) for row in rows if row.application == alias.application}
        return sorted(mine.values())[-_MOST_LIVES:]

    def _notes(self, alias: Alias, since_ms: int, lives: list[Lived], wished: list[dict[str, Any]], found: dict[str, Any]) -> list[str]:
        """What makes the comparison less than it seems."""
        notes: list[str] = []
        if not found["recorded"]["calls"]:
            notes.append("No call is on record for this time, so there is nothing to replay.")
        elif found["since_ms"] > since_ms:
            notes.append(
                "There are more calls than can be replayed at once: the newest of them are. Fewer settings at once reach further back."
            )
        if not found["starts_known"]:
            notes.append(f"No start of a runner is on record: {UNKNOWN_COLD_MS / 1000:g} s is assumed.")
        if alias.updated_ms > since_ms:
            notes.append("The app was deployed or scaled during this time: what was measured before that was with other settings.")
        if since_ms < self._parts.clock.now_ms() - _DAY_MS:
            notes.append("Runners are on record for a day after their end: the runner time that was measured lacks what ended before.")
        if ignored := sorted({name for wish in wished for name in wish if name in _NOT_SIMULATED}):
            notes.append(f"{', '.join(ignored)} changes nothing in a replay.")
        return notes


def _wished(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Each list of numbers is a choice: all combinations. `{"keep_alive": [10, 60], "max_concurrency": 4}` are two variants."""
    if not body:
        return [dict(wish) for wish in _USUAL]
    choices = [value if isinstance(value, list) and name != "machine_types" else [value] for name, value in body.items()]
    if empty := [name for name, values in zip(body, choices, strict=True) if not values]:
        raise RoostError("unprocessable", f"{empty[0]} needs at least one value")
    if math.prod(map(len, choices)) > MOST_VARIANTS:
        raise RoostError("unprocessable", f"these are more than {MOST_VARIANTS} combinations of settings", hint="Ask for fewer at once.")
    return [dict(zip(body, values, strict=True)) for values in itertools.product(*choices)]


def _last_ms(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 366 * 86_400:
        raise RoostError("unprocessable", f"last_s must be a number of seconds, not {str(value)[:40]!r}")
    return max(1, round(value * 1000))


def _lived(runner: Runner) -> Lived:
    return Lived(runner.created_ms, runner.ready_ms, runner.ended_ms)


def _figures(found: dict[str, Any]) -> dict[str, Any]:
    """Runner time in seconds, as people count it."""
    return {**{name: value for name, value in found.items() if name != "runner_ms"}, "runner_s": found["runner_ms"] / 1000}
