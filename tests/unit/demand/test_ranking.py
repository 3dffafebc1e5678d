"""The ranking against a sorted list."""

from __future__ import annotations

from bisect import bisect_left, insort

from hypothesis import given
from hypothesis import strategies as st

from roost.demand.ranking import Ranking

NUMBERS = st.integers(0, 60)


@given(st.lists(st.tuples(st.booleans(), NUMBERS)))
def test_a_ranking_says_what_a_sorted_list_says(steps: list[tuple[bool, int]]) -> None:
    ranking, plain = Ranking(), list[int]()
    for adds, number in steps:
        if adds:
            ranking.add(number)
            if number not in plain:
                insort(plain, number)
        else:
            assert ranking.remove(number) is (number in plain)
            if number in plain:
                plain.remove(number)
        assert list(ranking) == plain
        assert (len(ranking), ranking.first()) == (len(plain), plain[0] if plain else None)
        for asked in (0, number, number + 1, 61):
            assert ranking.rank(asked) == bisect_left(plain, asked)
            assert (asked in ranking) is (asked in plain)


def test_blocks_are_split_and_dropped_without_losing_anybody() -> None:
    ranking = Ranking()
    numbers = [*range(0, 10_000, 2), *range(9_999, 0, -2)]
    for number in numbers:
        ranking.add(number)
    assert list(ranking) == list(range(10_000))
    assert all(ranking.rank(number) == number for number in range(0, 10_000, 97))
    for number in range(0, 10_000, 3):
        assert ranking.remove(number)
    left = [number for number in range(10_000) if number % 3]
    assert list(ranking) == left
    assert [ranking.rank(number) for number in left[::101]] == list(range(0, len(left), 101))
    for number in left:
        assert ranking.remove(number)
    assert (len(ranking), ranking.first(), list(ranking)) == (0, None, [])
