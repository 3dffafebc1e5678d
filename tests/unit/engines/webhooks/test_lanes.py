from __future__ import annotations

import itertools
import random
from dataclasses import replace

from roost.core.webhooks import Webhook, WebhookState
from roost.engines.webhooks.lanes import ALL_AT_ONCE, FAILING_AT_ONCE, LARGE_TOGETHER, Lanes

MB = 1024 * 1024
BLANK = Webhook(0, "", "", "me", "app", "main", "me", "", WebhookState.PENDING, 0, 0, 0, 0)
SEQS = itertools.count(1)


def webhook(receiver: str = "a", size: int = 0) -> Webhook:
    return replace(BLANK, seq=next(SEQS), receiver=receiver, size=size)


def lanes(*waiting: Webhook, a_second: float = 0) -> Lanes:
    made = Lanes(a_second)
    for one in waiting:
        made.offer(one)
    return made


def taken(lanes: Lanes, now_ms: int = 0) -> list[Webhook]:
    found: list[Webhook] = []
    while (one := lanes.take(now_ms)) is not None:
        found.append(one)
    return found


def test_a_new_receiver_is_tried_once_and_then_four_times_at_once() -> None:
    all_of_them = lanes(*(webhook() for _ in range(20)))
    counts: list[int] = []
    under_way: list[Webhook] = []
    for now_ms in range(5):
        under_way += taken(all_of_them, now_ms)
        counts.append(len(under_way))
        all_of_them.ended(under_way.pop(0), now_ms, now_ms, trouble=False)
    assert counts == [1, 2, 3, 4, 4]


def test_receivers_take_turns() -> None:
    mixed = lanes(*(webhook("a") for _ in range(3)), webhook("b"), webhook("c"))
    order: list[str] = []
    for now_ms in range(5):
        one = mixed.take(now_ms)
        assert one is not None
        order.append(one.receiver)
        mixed.ended(one, now_ms, now_ms, trouble=None)
    assert order == ["a", "b", "c", "a", "a"]


def test_offered_again_it_is_one() -> None:
    one = webhook()
    twice = lanes(one, one)
    assert taken(twice) == [one]
    twice.offer(one)
    assert taken(twice) == []


def test_the_rate_holds_between_any_two() -> None:
    steady = lanes(*(webhook() for _ in range(10)), a_second=50)
    began: list[int] = []
    for now_ms in range(300):
        for one in taken(steady, now_ms):
            began.append(now_ms)
            steady.ended(one, now_ms, now_ms, trouble=False)
    assert [later - earlier for earlier, later in itertools.pairwise(began)] == [20] * 9
    assert len(began) == 10


def test_one_that_fails_twice_rests_and_says_when_it_may_be_asked_again() -> None:
    failing = lanes(webhook(), webhook(), webhook())
    for now_ms in (4_000, 5_000):
        (one,) = taken(failing, now_ms)
        failing.ended(one, now_ms, now_ms, trouble=True)
    assert failing.take(5_999) is None and failing.next_moment() == 6_000
    assert failing.take(6_000) is not None


def test_several_that_fail_together_are_one_failure() -> None:
    failing = lanes(*(webhook() for _ in range(10)))
    (first,) = taken(failing)
    failing.ended(first, 0, 0, trouble=False)
    together = taken(failing, 10)
    for one in together:
        failing.ended(one, 10, 20, trouble=True)
    assert len(together) == 2 and failing.next_moment() == 20


def test_there_is_a_limit_to_all_of_them_and_a_lower_one_to_those_that_fail() -> None:
    failing = lanes(*(webhook(f"f{n}") for n in range(200) for _ in range(4)))
    first = taken(failing)
    assert len(first) == ALL_AT_ONCE and failing.next_moment() is None
    while first:
        for one in first:
            failing.ended(one, 0, 0, trouble=True)
        first = taken(failing)
    assert len(taken(failing, 10_000)) == FAILING_AT_ONCE
    for n in range(50):
        failing.offer(webhook(f"good{n}"))
    assert len(taken(failing, 10_000)) == ALL_AT_ONCE - FAILING_AT_ONCE


def test_large_ones_wait_for_room_and_small_ones_of_others_go_by() -> None:
    size = 9 * MB
    mixed = lanes(*(webhook(f"l{n}", size) for n in range(6)), webhook("small", MB))
    begun = taken(mixed)
    assert len(begun) == LARGE_TOGETHER // size + 1 and begun[-1].receiver == "small"
    assert mixed.next_moment() is None
    mixed.ended(begun[0], 0, 0, trouble=False)
    assert len(taken(mixed)) == 1


def test_whatever_happens_the_accounts_come_back_to_nothing() -> None:
    dice = random.Random(7)
    some = lanes()
    under_way: list[tuple[Webhook, int]] = []
    left = 400
    for now_ms in range(0, 4_000_000, 100):
        if left and dice.random() < 0.3:
            left -= 1
            some.offer(webhook(f"r{dice.randrange(90)}", dice.choice((0, 2 * MB, 20 * MB))))
        under_way += [(one, now_ms) for one in taken(some, now_ms)]
        assert some.under_way == len(under_way) <= ALL_AT_ONCE
        if under_way and dice.random() < 0.5:
            one, began_ms = under_way.pop(dice.randrange(len(under_way)))
            some.ended(one, began_ms, now_ms, trouble=dice.choice((True, False, None)))
        if not left and not under_way and some.next_moment() is None:
            break
    assert not left and not under_way
    assert (some.under_way, some._failing, some._large, some._known) == (0, 0, 0, set())
