"""When each runner was asked for, had a process, dialled home and was ready: what a cold start was made of (core/stages.py)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from roost.core.stages import Birth

REMEMBERED = 1_000


class Births:
    """In memory only, the newest thousand. `clock_s` is monotonic."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._births: OrderedDict[str, Birth] = OrderedDict()

    def of(self, runner_id: str) -> Birth | None:
        return self._births.get(runner_id)

    def asked(self, runner_id: str, how: str, why_spawned: str = "") -> None:
        """A process is asked for; once more, when a fork came to nothing, with what is tried instead."""
        earlier = self._births.get(runner_id)
        self._births[runner_id] = Birth(how, earlier.asked_s if earlier is not None else self._clock_s(), why_spawned=why_spawned)
        if len(self._births) > REMEMBERED:
            self._births.popitem(last=False)

    def started(self, runner_id: str) -> None:
        birth = self._births.get(runner_id)
        if birth is not None and birth.started_s is None:
            self._births[runner_id] = replace(birth, started_s=self._clock_s())

    def connected(self, runner_id: str) -> None:
        birth = self._births.get(runner_id)
        if birth is not None and birth.connected_s is None:
            self._births[runner_id] = replace(birth, connected_s=self._clock_s())

    def ready(self, runner_id: str) -> Birth | None:
        """Its birth if this is the first time."""
        birth = self._births.get(runner_id)
        if birth is None or birth.ready_s is not None:
            return None
        birth = self._births[runner_id] = replace(birth, ready_s=self._clock_s())
        return birth
