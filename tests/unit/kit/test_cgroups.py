"""Control groups as folders: the kernel's part is played by files that the tests write."""

from __future__ import annotations

from pathlib import Path

import pytest

from roost.kit import cgroups
from roost.kit.cgroups import Groups, Unavailable, Use
from roost.kit.spawn import Limits

OURS = {100, 101}
GONE = 2**22 + 1


def version_2(root: Path, procs: str = "100\n101\n", controllers: str = "cpu io memory pids") -> Path:
    own = root / "system.slice" / "roost.service"
    own.mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu io memory")
    (own / "cgroup.controllers").write_text(controllers)
    (own / "cgroup.procs").write_text(procs)
    (own / "cgroup.subtree_control").write_text("")
    (root / "membership").write_text("0::/system.slice/roost.service\n")
    return own


def version_1(root: Path, memory: str = "100\n101\n", cpu: str = "100\n") -> tuple[Path, Path]:
    folders = root / "memory" / "box", root / "cpu"
    for folder, procs in zip(folders, (memory, cpu), strict=True):
        folder.mkdir(parents=True)
        (folder / "cgroup.procs").write_text(procs)
    (root / "membership").write_text("3:cpu,cpuacct:/\n2:memory:/box\n1:name=systemd:/\n0::/\n")
    return folders


def found(root: Path) -> Groups:
    groups = cgroups.find(OURS, root / "membership", root)
    assert isinstance(groups, Groups), groups
    return groups


def refused(root: Path) -> str:
    groups = cgroups.find(OURS, root / "membership", root)
    assert isinstance(groups, Unavailable)
    return groups.reason


def test_a_group_of_version_2_is_divided_once_we_have_left_it(tmp_path: Path) -> None:
    own = version_2(tmp_path)
    groups = found(tmp_path)
    assert (groups.version, groups.limits_memory, groups.limits_cpu) == (2, True, True)
    assert (own / "roost-platform" / "cgroup.procs").read_text() == "101", "the last one written; the kernel takes one at a time"
    assert (own / "cgroup.subtree_control").read_text() == "+memory +cpu"
    assert (own / "roost-platform" / "cpu.weight").read_text() == "1000"


def test_a_runner_of_version_2_gets_its_cap_and_its_share(tmp_path: Path) -> None:
    own = version_2(tmp_path)
    found(tmp_path).put("r1", [7], Limits(512, 0.5))
    said = {path.name: path.read_text() for path in (own / "roost-r1").iterdir()}
    assert said == {"memory.max": "536870912", "memory.oom.group": "1", "cpu.weight": "50", "cgroup.procs": "7"}


def test_a_runner_of_version_1_is_in_a_group_of_each_kind(tmp_path: Path) -> None:
    memory, cpu = version_1(tmp_path)
    found(tmp_path).put("r1", [7], Limits(512, 0.5))
    assert {path.name: path.read_text() for path in (memory / "roost-r1").iterdir()} == {
        "memory.limit_in_bytes": "536870912",
        "cgroup.procs": "7",
    }
    assert {path.name: path.read_text() for path in (cpu / "roost-r1").iterdir()} == {"cpu.shares": "512", "cgroup.procs": "7"}


def test_without_a_limit_none_is_written(tmp_path: Path) -> None:
    own = version_2(tmp_path)
    found(tmp_path).put("r1", [7], Limits(0, 2))
    assert {path.name for path in (own / "roost-r1").iterdir()} == {"cpu.weight", "cgroup.procs"}


@pytest.mark.parametrize(
    ("events", "use"),
    [
        ("low 0\nhigh 0\nmax 9\noom 1\noom_kill 2\noom_group_kill 1\n", Use(True, True, 511)),
        ("low 0\nhigh 0\nmax 9\noom 0\noom_kill 1\n", Use(True, False, 511)),
        ("low 0\nhigh 0\nmax 9\noom 0\noom_kill 0\n", Use(False, False, 511)),
    ],
    ids=["its own limit", "the machine's", "neither"],
)
def test_version_2_says_who_was_killed_and_why(tmp_path: Path, events: str, use: Use) -> None:
    own = version_2(tmp_path)
    groups = found(tmp_path)
    groups.put("r1", [7], Limits(512))
    (own / "roost-r1" / "memory.events").write_text(events)
    (own / "roost-r1" / "memory.peak").write_text(f"{511 * 1024 * 1024}\n")
    assert groups.use("r1") == use


def test_version_1_says_who_was_killed_and_why(tmp_path: Path) -> None:
    memory, _ = version_1(tmp_path)
    groups = found(tmp_path)
    groups.put("r1", [7], Limits(512))
    (memory / "roost-r1" / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    (memory / "roost-r1" / "memory.failcnt").write_text("44\n")
    (memory / "roost-r1" / "memory.max_usage_in_bytes").write_text(f"{512 * 1024 * 1024}\n")
    assert groups.use("r1") == Use(True, True, 512)


def test_a_kernel_without_a_peak_tells_none(tmp_path: Path) -> None:
    version_2(tmp_path)
    groups = found(tmp_path)
    groups.put("r1", [7], Limits(512))
    assert groups.use("r1") == Use(False, False, 0)


def test_the_end_of_a_group_is_asked_of_the_kernel_where_it_knows_how(tmp_path: Path) -> None:
    own = version_2(tmp_path)
    groups = found(tmp_path)
    groups.put("r1", [GONE], Limits(512))
    groups.end("r1")
    assert not (own / "roost-r1" / "cgroup.kill").exists()
    (own / "roost-r1" / "cgroup.kill").write_text("")
    groups.end("r1")
    assert (own / "roost-r1" / "cgroup.kill").read_text() == "1"


def test_an_empty_group_can_be_removed_and_one_that_is_gone_is_gone(tmp_path: Path) -> None:
    own = version_2(tmp_path)
    groups = found(tmp_path)
    groups.put("r1", [], Limits())
    assert groups.remove("r1")
    assert not (own / "roost-r1").exists()
    assert groups.remove("r1")
    groups.put("r2", [7], Limits(512))
    assert not groups.remove("r2"), "somebody is in it"


def test_empty_groups_of_a_supervisor_before_us_go(tmp_path: Path) -> None:
    own = version_2(tmp_path)
    (own / "roost-left").mkdir()
    found(tmp_path)
    assert not (own / "roost-left").exists()


def test_where_strangers_run_nothing_is_touched(tmp_path: Path) -> None:
    own = version_2(tmp_path, procs="100\n101\n4711\n")
    assert refused(tmp_path) == f"other programs run in the control group {own} too"
    assert sorted(path.name for path in own.iterdir()) == ["cgroup.controllers", "cgroup.procs", "cgroup.subtree_control"]


def test_a_group_that_may_not_limit_memory_is_of_no_use(tmp_path: Path) -> None:
    version_2(tmp_path, controllers="pids")
    assert "may not limit memory (its cgroup.controllers: pids)" in refused(tmp_path)


def test_version_1_may_have_strangers_in_one_kind_only(tmp_path: Path) -> None:
    version_1(tmp_path, cpu="1\n2\n100\n")
    groups = found(tmp_path)
    assert (groups.limits_memory, groups.limits_cpu) == (True, False)


def test_without_the_cpu_controller_version_2_keeps_memory(tmp_path: Path) -> None:
    own = version_2(tmp_path, controllers="memory")
    groups = found(tmp_path)
    assert (groups.limits_memory, groups.limits_cpu) == (True, False)
    assert (own / "cgroup.subtree_control").read_text() == "+memory"


def test_inside_a_container_the_mount_itself_is_our_group(tmp_path: Path) -> None:
    version_2(tmp_path)
    (tmp_path / "membership").write_text("0::/docker/abc\n")
    (tmp_path / "cgroup.procs").write_text("100\n")
    assert found(tmp_path).limits_memory
    assert (tmp_path / "roost-platform").is_dir()


def test_a_machine_without_control_groups_says_so(tmp_path: Path) -> None:
    (tmp_path / "membership").write_text("")
    assert refused(tmp_path) == (f"there is no control group at {tmp_path / 'memory'}; there is no control group at {tmp_path / 'cpu'}")
