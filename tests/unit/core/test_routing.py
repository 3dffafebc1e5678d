from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from roost.core.routing import Pick, Send, Wait, choose


@dataclass
class Slot:
    id: str
    free: int = 1
    hints: tuple[str, ...] = ()
    remembered: tuple[str, ...] = ()


def chosen(slots: list[Slot], pick: Pick) -> str:
    match choose(slots, pick):
        case Send(runner):
            return runner.id
        case Wait():
            return "wait"


def test_without_a_free_runner_the_call_waits() -> None:
    assert chosen([], Pick()) == "wait"
    assert chosen([Slot("a", 0), Slot("b", 0)], Pick(turn=5, hint="h")) == "wait"


def test_free_runners_take_turns() -> None:
    slots = [Slot("a", 100), Slot("b", 100), Slot("c", 100)]
    turn, order = 0, ""
    for _ in range(6):
        sent = choose(slots, Pick(turn))
        assert isinstance(sent, Send)
        order, turn = order + sent.runner.id, sent.turn
    assert order == "abcabc"


def test_a_busy_runner_gives_its_turn_to_all_others_alike() -> None:
    slots = [Slot("a", 100), Slot("busy", 0), Slot("c", 100)]
    turn, taken = 0, Counter[str]()
    for _ in range(10):
        sent = choose(slots, Pick(turn))
        assert isinstance(sent, Send)
        taken[sent.runner.id] += 1
        turn = sent.turn
    assert taken == {"a": 5, "c": 5}


def test_a_runner_that_reported_the_hint_is_preferred() -> None:
    slots = [Slot("a"), Slot("b", hints=("sdxl",)), Slot("c", hints=("flux",))]
    assert chosen(slots, Pick(hint="flux")) == "c"


def test_a_runner_that_had_the_hint_is_preferred_where_none_reports_it() -> None:
    assert chosen([Slot("a"), Slot("b", remembered=("sdxl", "flux"))], Pick(hint="flux")) == "b"
    assert chosen([Slot("a", remembered=("flux",)), Slot("b", hints=("flux",))], Pick(hint="flux")) == "b"


def test_a_runner_that_reports_other_hints_is_believed() -> None:
    assert chosen([Slot("a"), Slot("b", hints=("sdxl",), remembered=("flux",))], Pick(hint="flux")) == "a"


def test_of_two_that_had_the_hint_the_next_in_turn_is_taken() -> None:
    slots = [Slot("a", remembered=("h",)), Slot("b"), Slot("c", remembered=("h",))]
    assert (chosen(slots, Pick(0, "h")), chosen(slots, Pick(1, "h"))) == ("a", "c")


def test_a_busy_runner_that_had_the_hint_is_never_waited_for() -> None:
    assert chosen([Slot("a"), Slot("b", 0, remembered=("h",))], Pick(hint="h")) == "a"


def test_hints_are_equal_or_not_never_similar() -> None:
    assert chosen([Slot("a"), Slot("b", hints=("sdxl-turbo",))], Pick(hint="sdxl")) == "a"


def test_a_busy_match_is_never_waited_for() -> None:
    assert chosen([Slot("a"), Slot("b", 0, hints=("h",))], Pick(hint="h")) == "a"


def test_a_retry_goes_to_another_runner_even_against_the_hint() -> None:
    assert chosen([Slot("a", hints=("h",)), Slot("b")], Pick(hint="h", avoid=frozenset({"a"}))) == "b"


def test_a_retry_takes_the_same_runner_when_there_is_no_other() -> None:
    assert chosen([Slot("a"), Slot("b", 0)], Pick(avoid=frozenset({"a"}))) == "a"


some_hints = st.lists(st.sampled_from("xyz"), max_size=2).map(tuple)
slots_strategy = st.lists(st.builds(Slot, st.uuids().map(str), st.integers(0, 2), some_hints, some_hints), max_size=8)


@given(slots_strategy, st.integers(0, 1000), st.sampled_from(["", "x", "y"]), st.data())
def test_a_call_waits_only_if_nobody_is_free_and_a_free_match_is_always_taken(
    slots: list[Slot], turn: int, hint: str, data: st.DataObject
) -> None:
    avoid = frozenset(data.draw(st.sets(st.sampled_from([s.id for s in slots])))) if slots else frozenset[str]()
    free = [s for s in slots if s.free]
    choice = choose(slots, Pick(turn, hint, avoid))
    if isinstance(choice, Wait):
        assert not free
        return
    assert choice.runner in free
    best = [s for s in free if s.id not in avoid]
    if best:
        assert choice.runner in best
    if hint and any(hint in s.hints for s in best):
        assert hint in choice.runner.hints
    elif hint and any(hint in s.remembered and not s.hints for s in best):
        assert hint in choice.runner.remembered and not choice.runner.hints
