"""When a runner was asked for, started, connected and ready: each once, the first time."""

from __future__ import annotations

from itertools import count

from roost.core.stages import Birth
from roost.demand.births import REMEMBERED, Births


def births() -> Births:
    moments = count(1)
    return Births(lambda: float(next(moments)))


def test_a_birth_is_noted_in_order() -> None:
    noted = births()
    noted.asked("r", "fork")
    noted.started("r")
    noted.connected("r")
    assert noted.ready("r") == Birth("fork", 1.0, 2.0, 3.0, 4.0)


def test_a_fork_that_came_to_nothing_keeps_the_time_that_it_cost() -> None:
    noted = births()
    noted.asked("r", "fork")
    noted.asked("r", "spawn", "the template went away")
    noted.started("r")
    assert noted.of("r") == Birth("spawn", 1.0, 3.0 - 1.0, why_spawned="the template went away")


def test_a_runner_that_dials_again_was_born_before() -> None:
    noted = births()
    noted.asked("r", "spawn")
    noted.ready("r")
    noted.connected("r")
    assert noted.ready("r") is None
    first = noted.of("r")
    noted.connected("r")
    assert noted.of("r") == first


def test_what_nobody_asked_for_is_not_noted() -> None:
    noted = births()
    noted.started("stranger")
    noted.connected("stranger")
    assert noted.ready("stranger") is None
    assert noted.of("stranger") is None


def test_only_the_newest_are_remembered() -> None:
    noted = births()
    for number in range(REMEMBERED + 1):
        noted.asked(str(number), "fork")
    assert noted.of("0") is None
    assert noted.of("1") is not None
