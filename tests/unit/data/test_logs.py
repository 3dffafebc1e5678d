from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from roost.data import holes
from roost.data.logs import BEGINNING, MAX_MESSAGE, NOW, Last, LogLine, RunnerLogs, Since, newest
from roost.wire.errors import RoostError


def record(text: str, at_ms: int = 1_000, stream: str = "out", **more: str) -> bytes:
    return b"\x1e" + json.dumps({"t": at_ms, "s": stream, "l": text, **more}, ensure_ascii=False).encode() + b"\n"


def texts(lines: list[LogLine]) -> list[str]:
    return [line.message for line in lines]


@pytest.fixture
def logs(tmp_path: Path) -> RunnerLogs:
    return RunnerLogs(tmp_path)


def write(logs: RunnerLogs, *pieces: bytes, runner_id: str = "r1") -> None:
    with logs.path(runner_id).open("ab") as file:
        file.write(b"".join(pieces))


def test_a_record_becomes_a_line_with_its_call(logs: RunnerLogs):
    write(logs, record("hi\tthere\x1e", 1_500, "err", r="req", e="/go"))
    assert logs.tail("r1", 10) == [LogLine(1_500, "STDERR", "user", "hi\tthere\x1e", "req", "/go", "r1")]


def test_the_runners_own_words_are_told_from_its_authors(logs: RunnerLogs):
    write(logs, record("bye", stream="sys"))
    (line,) = logs.tail("r1", 1)
    assert (line.level, line.source) == ("INFO", "runner")


def test_lines_of_c_code_are_taken_as_they_are_with_the_time_of_their_neighbours(logs: RunnerLogs):
    write(logs, b"early\n", record("one", 1_000), b"raw \xff\r\n", b"\n", record("two", 2_000))
    assert [(line.message, line.at_ms) for line in logs.tail("r1", 10)] == [
        ("early", 1_000),
        ("one", 1_000),
        ("raw \ufffd", 1_000),
        ("", 1_000),
        ("two", 2_000),
    ]


def test_raw_text_without_an_end_does_not_swallow_the_record_behind_it(logs: RunnerLogs):
    write(logs, b"progress 50%", record("hello"))
    assert texts(logs.tail("r1", 10)) == ["progress 50%", "hello"]


def test_a_record_that_is_none_is_shown_as_text(logs: RunnerLogs):
    write(logs, b"\x1e{broken\n", b"\x1e[1]\n")
    assert texts(logs.tail("r1", 10)) == ["{broken", "[1]"]


def test_a_file_without_any_time_takes_that_of_its_last_writing(logs: RunnerLogs):
    write(logs, b"raw\n")
    os.utime(logs.path("r1"), ns=(7_000_000_000, 7_000_000_000))
    assert logs.tail("r1", 1)[0].at_ms == 7_000


@pytest.mark.parametrize("wanted", [0, 1, 2, 99, 5_000])
@pytest.mark.parametrize("end", [b"", b"unfinished"])
def test_a_tail_is_the_newest_lines_however_long_they_are(logs: RunnerLogs, wanted: int, end: bytes):
    every = [f"{n} {'x' * (n % 7 * 50)}" for n in range(3_000)]
    write(logs, *(record(text) for text in every), end)
    all_lines = every + ([end.decode()] if end else [])
    assert texts(logs.tail("r1", wanted)) == all_lines[max(0, len(all_lines) - wanted) :]


def test_reading_since_a_moment(logs: RunnerLogs):
    write(logs, record("one", 1_000), b"raw\n", record("two", 2_000), b"raw too\n")
    assert texts(logs.read("r1", 1_001)) == ["two", "raw too"]
    assert texts(logs.read("r1", 0)) == ["one", "raw", "two", "raw too"]


def test_a_runner_that_printed_nothing_has_no_lines(logs: RunnerLogs):
    assert logs.tail("r1", 10) == []
    assert logs.read("r1", 0) == []
    assert logs.trim("r1") == 0


def test_a_follower_reads_each_line_once_when_it_is_whole(logs: RunnerLogs):
    follower = logs.follow("r1")
    assert follower.poll() == []
    write(logs, record("one"), record("two")[:-5])
    assert texts(follower.poll()) == ["one"]
    assert follower.poll() == []
    write(logs, record("two")[-5:])
    assert texts(follower.poll()) == ["two"]
    assert follower.poll() == []


def test_the_last_line_of_a_runner_that_ended_needs_no_end(logs: RunnerLogs):
    follower = logs.follow("r1")
    write(logs, record("one"), b"Segmentation fau")
    assert texts(follower.poll()) == ["one"]
    assert follower.poll() == []
    assert texts(follower.rest()) == ["Segmentation fau"]
    assert follower.rest() == []


@pytest.mark.parametrize(("start", "first"), [(NOW, []), (Last(1), ["two"]), (Since(2_000), ["two"]), (BEGINNING, ["one", "two"])])
def test_a_follower_begins_where_it_is_told_and_misses_nothing_after(logs: RunnerLogs, start: object, first: list[str]):
    write(logs, record("one", 1_000), record("two", 2_000))
    follower = logs.follow("r1", start)  # type: ignore[arg-type]
    assert texts(follower.poll()) == first
    write(logs, record("three", 3_000))
    assert texts(follower.poll()) == ["three"]


def test_a_follower_from_now_on_of_a_file_that_comes_later_reads_all_of_it(logs: RunnerLogs):
    follower = logs.follow("r1", NOW)
    write(logs, record("one"))
    assert texts(follower.poll()) == ["one"]


def test_a_file_that_is_begun_anew_is_read_from_its_beginning(logs: RunnerLogs):
    follower = logs.follow("r1")
    write(logs, record("a long first line"))
    follower.poll()
    logs.path("r1").write_bytes(b"new\n")
    assert texts(follower.poll()) == ["new"]


def test_much_output_comes_in_portions(logs: RunnerLogs):
    write(logs, record("x" * 1_000) * 5_000)
    follower = logs.follow("r1")
    sizes: list[int] = []
    while lines := follower.poll():
        sizes.append(len(lines))
    assert sum(sizes) == 5_000
    assert max(sizes) < 1_100


def test_an_endless_line_is_cut_and_does_not_grow_in_memory(logs: RunnerLogs):
    follower = logs.follow("r1")
    for _ in range(8):
        write(logs, b"x" * 1_000_000)
        assert follower.poll() == []
        assert len(follower._unfinished) <= 8 * MAX_MESSAGE
    write(logs, b"\n", record("next"))
    cut, line = follower.poll()
    assert cut.message == "x" * MAX_MESSAGE
    assert line.message == "next"


def test_trimming_frees_the_head_and_leaves_whole_lines(logs: RunnerLogs):
    write(logs, *(record(f"{n:06d} {'x' * 100}") for n in range(20_000)))
    follower = logs.follow("r1", NOW)
    size = logs.path("r1").stat().st_size
    freed = logs.trim("r1", keep_bytes=100_000)
    if not freed:
        # A file system that cannot do it, and says so by doing nothing.
        assert len(logs.read("r1", 0)) == 20_000
        return
    assert size - 110_000 < freed <= size
    assert logs.path("r1").stat().st_size == size
    left = texts(logs.read("r1", 0))
    assert 0 < len(left) < 1_000
    numbers = [int(text.split()[0]) for text in left]
    assert numbers == list(range(20_000 - len(left), 20_000))
    write(logs, record("after"))
    assert texts(follower.poll()) == ["after"]
    assert texts(logs.tail("r1", 100_000)) == [*left, "after"]
    assert logs.trim("r1", keep_bytes=100_000) < 10_000


def test_a_small_file_is_not_trimmed(logs: RunnerLogs):
    write(logs, record("one"))
    assert logs.trim("r1") == 0
    assert texts(logs.tail("r1", 1)) == ["one"]


def test_what_cannot_be_freed_is_left_alone(tmp_path: Path):
    file = tmp_path / "f"
    file.write_bytes(b"data")
    fd = os.open(file, os.O_RDONLY)
    try:
        assert not holes.free_head(fd, 2)
    finally:
        os.close(fd)
    assert file.read_bytes() == b"data"


def test_pruning_removes_old_files_of_runners_that_are_gone(logs: RunnerLogs):
    for runner_id, written_s in (("old", 10), ("kept", 10), ("new", 100)):
        write(logs, b"x\n", runner_id=runner_id)
        os.utime(logs.path(runner_id), (written_s, written_s))
    assert logs.prune(50_000, {"kept"}) == 1
    assert [logs.path(name).exists() for name in ("old", "kept", "new")] == [False, True, True]


@pytest.mark.parametrize("runner_id", ["../x", "", "a/b", ".", "x" * 200, "a\0"])
def test_what_is_no_runners_id_never_becomes_a_path(logs: RunnerLogs, runner_id: str):
    with pytest.raises(RoostError) as caught:
        logs.path(runner_id)
    assert caught.value.code == "not_found"


def test_the_newest_lines_are_bounded_in_characters_too(logs: RunnerLogs):
    megabyte = "x" * (1024 * 1024)
    lines = [LogLine(number, "STDOUT", "user", megabyte) for number in range(20)]
    assert [line.at_ms for line in newest(lines)] == list(range(12, 20))
    assert newest(lines, 2) == lines[-2:]
    assert newest(lines, 0) == []
    write(logs, *(record("y" * MAX_MESSAGE, at_ms=number) for number in range(200)))
    assert [line.at_ms for line in logs.read("r1", 0)] == list(range(200 - 128, 200))


def test_how_a_runner_ended_is_added_to_its_log_on_a_line_of_its_own(logs: RunnerLogs):
    write(logs, record("hi"), b"cut off in the mid")
    logs.add("r1", "out of memory", 2_000)
    assert texts(logs.tail("r1", 10)) == ["hi", "cut off in the mid", "out of memory"]
    last = logs.tail("r1", 1)[0]
    assert (last.at_ms, last.level, last.source) == (2_000, "INFO", "runner")


def test_nothing_is_added_to_a_log_that_is_not_there(logs: RunnerLogs):
    logs.add("r1", "out of memory", 2_000)
    assert not logs.path("r1").exists()
