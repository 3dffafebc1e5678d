"""Which templates live: worth per megabyte, under a budget, base first, never a refused one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roost.core.templates import (
    FIRST_GUESS_MB,
    HALF_LIFE_MS,
    Action,
    Base,
    Candidate,
    End,
    MakeBase,
    MakeTemplate,
    Use,
    plan,
    started,
    worth,
)

NOW = 10 * HALF_LIFE_MS
ONCE = Use(1, NOW)

candidates = st.lists(
    st.builds(
        Candidate,
        revision_id=st.uuids().map(str),
        base=st.sampled_from(["base a", "base b"]),
        current=st.booleans(),
        use=st.builds(Use, starts=st.floats(0, 100), at_ms=st.integers(0, NOW)),
        saved_ms=st.integers(-100, 10_000),
        living=st.booleans(),
        memory_mb=st.none() | st.floats(0, 500),
        refused=st.sampled_from(["", "", "a thread is running"]),
        starting=st.booleans(),
    ),
    max_size=8,
    unique_by=lambda candidate: candidate.revision_id,
)
bases = st.tuples(
    *(
        st.builds(
            Base, name=st.just(name), living=st.booleans(), memory_mb=st.none() | st.floats(0, 300), refused=st.sampled_from(["", "", "no"])
        )
        for name in ("base a", "base b")
    )
)
budgets = st.floats(0, 2_000)


def ended(actions: tuple[Action, ...]) -> set[str]:
    return {action.name for action in actions if isinstance(action, End)}


def made(actions: tuple[Action, ...]) -> set[str]:
    return {action.revision_id for action in actions if isinstance(action, MakeTemplate)}


def test_a_revision_that_was_started_gets_its_base_first() -> None:
    assert plan([Candidate("r", "b", use=ONCE)], [], 1024, NOW) == (MakeBase("b"),)


def test_a_template_follows_when_its_base_lives() -> None:
    assert plan([Candidate("r", "b", use=ONCE)], [Base("b", living=True)], 1024, NOW) == (MakeTemplate("r"),)


def test_nothing_is_made_of_a_revision_that_nobody_has_started() -> None:
    assert plan([Candidate("r", "b")], [], 1024, NOW) == ()


def test_a_template_waits_until_the_runner_that_starts_is_ready() -> None:
    assert plan([Candidate("r", "b", use=ONCE, starting=True)], [], 1024, NOW) == ()


def test_a_budget_of_nothing_ends_all() -> None:
    actions = plan([Candidate("r", "b", use=ONCE, living=True)], [Base("b", living=True)], 0, NOW)
    assert ended(actions) == {"r", "b"}


def test_a_replaced_revision_loses_its_template_and_the_base_stays_for_the_new_one() -> None:
    old, new = Candidate("old", "b", current=False, living=True, use=ONCE), Candidate("new", "b", use=ONCE)
    actions = plan([old, new], [Base("b", living=True)], 1024, NOW)
    assert ended(actions) == {"old"}
    assert made(actions) == {"new"}


def test_the_more_useful_takes_the_place_of_the_less() -> None:
    rare = Candidate("rare", "b", use=ONCE, living=True, memory_mb=100)
    usual = Candidate("usual", "b", use=Use(10, NOW), memory_mb=100)
    actions = plan([rare, usual], [Base("b", living=True, memory_mb=30)], 150, NOW)
    assert ended(actions) == {"rare"}
    assert made(actions) == {"usual"}


def test_two_of_equal_use_do_not_replace_each_other() -> None:
    living = Candidate("z", "b", use=ONCE, living=True, memory_mb=100)
    other = Candidate("a", "b", use=ONCE, memory_mb=100)
    assert plan([living, other], [Base("b", living=True, memory_mb=30)], 150, NOW) == ()


def test_a_start_of_an_hour_ago_counts_half() -> None:
    use = started(Use(), NOW)
    assert use.now(NOW + HALF_LIFE_MS) == 0.5
    assert started(use, NOW + HALF_LIFE_MS).starts == 1.5


@given(candidates, bases, budgets)
def test_what_is_refused_or_replaced_or_unused_is_never_made(all_: list[Candidate], bases: tuple[Base, ...], budget: float) -> None:
    refused = {base.name for base in bases if base.refused}
    fit = {c.revision_id for c in all_ if c.current and not c.refused and c.base not in refused and c.use.starts > 0}
    actions = plan(all_, bases, budget, NOW)
    assert made(actions) <= fit
    assert all(action.base not in refused for action in actions if isinstance(action, MakeBase))


@given(candidates, bases, budgets)
def test_what_lives_afterwards_is_within_the_budget(all_: list[Candidate], bases: tuple[Base, ...], budget: float) -> None:
    actions = plan(all_, bases, budget, NOW)
    gone = ended(actions)
    kept = [c for c in all_ if c.revision_id in made(actions) or (c.living and c.revision_id not in gone)]
    needed = {c.base for c in kept}

    def memory(one: Candidate | Base) -> float:
        return FIRST_GUESS_MB if one.memory_mb is None else max(1.0, one.memory_mb)

    total = sum(memory(c) for c in kept) + sum(memory(b) for b in bases if b.name in needed)
    assert total <= budget + 1e-6


@given(candidates, bases, budgets)
def test_no_template_is_made_without_its_base_and_no_base_stays_for_nothing(
    all_: list[Candidate], bases: tuple[Base, ...], budget: float
) -> None:
    actions = plan(all_, bases, budget, NOW)
    living = {base.name for base in bases if base.living} - ended(actions)
    by_id = {c.revision_id: c for c in all_}
    assert {by_id[revision].base for revision in made(actions)} <= living
    used = {c.base for c in all_ if c.current and not c.refused and c.use.starts > 0}
    assert living <= used


@given(candidates, bases, budgets)
def test_each_is_ended_and_made_at_most_once(all_: list[Candidate], bases: tuple[Base, ...], budget: float) -> None:
    actions = plan(all_, bases, budget, NOW)
    assert len(set(actions)) == len(actions)
    assert not ended(actions) & made(actions)
    assert ended(actions) <= {c.revision_id for c in all_ if c.living} | {b.name for b in bases if b.living}


@given(candidates.filter(bool), st.integers(1, 1_000_000))
def test_worth_falls_with_time_and_never_below_nothing(all_: list[Candidate], later_ms: int) -> None:
    for candidate in all_:
        assert 0 <= worth(candidate, NOW + later_ms) <= worth(candidate, NOW)
