from __future__ import annotations

from pathlib import Path

import pytest

from roost.kit.cgroups import Unavailable
from roost.kit.spawn import Enforcement, Limits
from roost.supervisor.limits import Keeper, Verdict, pause_ms
from tests.unit.kit.test_cgroups import found, version_1, version_2
from tests.unit.kit.test_memory import python

NO = Unavailable("other programs run in it too")


def test_whoever_holds_more_than_it_may_is_told_once() -> None:
    keeper = Keeper(NO)
    with python("x = b'x' * (60 << 20)") as greedy, python("pass") as modest:
        keeper.take("greedy", greedy, Limits(32))
        keeper.take("modest", modest, Limits(32))
        assert keeper.look(0) == [greedy]
        assert keeper.look(10_000) == []
        verdict = keeper.ended(greedy)
        assert verdict.limit_mb == 32
        assert 60 <= verdict.peak_mb < 90
        assert keeper.ended(modest).limit_mb == 0


def test_the_whole_family_counts() -> None:
    program = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'x = b\"x\" * (60 << 20); print(1, flush=True); input()'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True); p.stdout.readline()"
    keeper = Keeper(NO)
    with python(program) as parent:
        keeper.take("parent", parent, Limits(48))
        assert keeper.look(0) == [parent]


def test_a_stray_counts_for_the_one_whose_mark_it_bears() -> None:
    with python("x = b'x' * (60 << 20)") as stray, python("pass") as child:
        keeper = Keeper(NO, lambda: {stray: child})
        keeper.take("child", child, Limits(48))
        assert keeper.look(0) == [child]


def test_what_a_fork_inherits_is_not_counted_again() -> None:
    keeper = Keeper(NO)
    with python("x = b'x' * (60 << 20)") as forked:
        keeper.take("forked", forked, Limits(32), forked=True)
        assert keeper.look(0) == []


def test_nobody_is_looked_at_before_it_is_time() -> None:
    keeper = Keeper(NO)
    assert keeper.next_look_ms() is None
    with python("pass") as pid:
        keeper.take("one", pid, Limits(4096))
        assert keeper.look(5_000) == []
        assert keeper.next_look_ms() == 6_000
        keeper.ended(pid)
    assert keeper.next_look_ms() is None


def test_newcomers_are_looked_at_soon_and_together() -> None:
    keeper = Keeper(NO)
    with python("pass") as first, python("x = b'x' * (60 << 20)") as second:
        keeper.take("first", first, Limits(4096))
        keeper.look(5_000)
        keeper.take("second", second, Limits(32))
        assert keeper.look(5_050) == []
        assert keeper.next_look_ms() == 5_100
        assert keeper.look(5_100) == [second]


def test_without_limits_there_is_nothing_to_keep() -> None:
    keeper = Keeper(NO)
    keeper.take("one", 1, Limits())
    assert keeper.next_look_ms() is None
    assert keeper.ended(1) == Verdict()


@pytest.mark.parametrize(
    ("room_mb", "cost_ms", "pause"),
    [(10_000, 1, 1_000), (1_000, 1, 500), (200, 1, 100), (0, 1, 100), (200, 50, 1_000), (10_000, 100, 2_000)],
    ids=["much room", "some room", "little room", "none", "costly", "very costly"],
)
def test_the_pause_is_short_where_memory_is_and_never_costs_more_than_a_twentieth(room_mb: float, cost_ms: float, pause: int) -> None:
    assert pause_ms(room_mb, cost_ms) == pause


def test_where_groups_cap_memory_nobody_looks(tmp_path: Path) -> None:
    own = version_2(tmp_path)
    keeper = Keeper(found(tmp_path))
    with python("pass") as pid:
        keeper.take("one", pid, Limits(512, 2))
        assert keeper.next_look_ms() is None
        assert (own / "roost-one" / "memory.max").read_text() == str(512 * 1024 * 1024)
        (own / "roost-one" / "memory.events").write_text("oom 1\noom_kill 1\n")
        (own / "roost-one" / "memory.peak").write_text(str(512 * 1024 * 1024))
        assert keeper.ended(pid) == Verdict(512, 512, killed=True)


def test_a_group_that_cannot_be_made_leaves_memory_to_be_looked_at(tmp_path: Path) -> None:
    own = version_2(tmp_path)
    keeper = Keeper(found(tmp_path))
    (own / "roost-one").write_text("in the way")
    with python("x = b'x' * (60 << 20)") as pid:
        keeper.take("one", pid, Limits(32))
        assert keeper.look(0) == [pid]


def test_groups_of_ended_runners_are_removed_when_they_are_empty(tmp_path: Path) -> None:
    own = version_2(tmp_path)
    keeper = Keeper(found(tmp_path))
    keeper.take("one", 2**22 + 1, Limits(512))
    keeper.ended(2**22 + 1)
    keeper.look(0)
    assert (own / "roost-one").exists()
    for file in (own / "roost-one").iterdir():
        file.unlink()
    keeper.look(0)
    assert not (own / "roost-one").exists()


def test_what_is_kept_and_how_is_said_in_words(tmp_path: Path) -> None:
    version_1(tmp_path, cpu="1\n2\n")
    assert Keeper(NO).how == Enforcement(
        "by looking at it, ten times a second where it is short",
        "not kept: there is no control group to give weights in",
        "other programs run in it too",
    )
    assert Keeper(found(tmp_path)).how == Enforcement(
        "by control groups (version 1)", "not kept: there is no control group to give weights in"
    )
