from __future__ import annotations

import json
from pathlib import Path

import pytest

from roost.core.requests import Attempt, AttemptState
from roost.data import request_logs
from roost.data.logs import RunnerLogs
from roost.data.request_logs import RequestLogs


class Output:
    """A runner's output file."""

    def __init__(self, folder: Path, runner_id: str = "r1") -> None:
        self.runner_id = runner_id
        self.path = folder / f"{runner_id}.log"
        self.path.touch()

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def raw(self, data: bytes) -> int:
        with self.path.open("ab") as file:
            file.write(data)
        return self.size

    def prints(self, request_id: str, *lines: str) -> int:
        return self.raw(b"".join(b"\x1e" + json.dumps({"t": 1, "s": "out", "l": line, "r": request_id}).encode() + b"\n" for line in lines))

    def attempt(self, start: int = 0, end: int | None = None, number: int = 1) -> Attempt:
        state = AttemptState.RUNNING if end is None else AttemptState.ANSWERED
        return Attempt("q1", number, f"q1-{number}", self.runner_id, state, 0, None, "", "", start, end)


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(tmp_path)


@pytest.fixture
def logs(tmp_path: Path) -> RequestLogs:
    return RequestLogs(RunnerLogs(tmp_path))


async def messages(logs: RequestLogs, *attempts: Attempt) -> list[str]:
    return [line.message for line in (await logs.read("q1", attempts)).lines]


async def test_lines_are_those_of_the_request_between_its_begin_and_its_end(output: Output, logs: RequestLogs) -> None:
    start = output.prints("q1", "before")
    output.raw(b"from C code\n")
    output.prints("q2", "mentions q1")
    end = output.prints("q1", "one", "two")
    output.prints("q1", "after")
    for _ in range(2):
        assert await messages(logs, output.attempt(start, end)) == ["one", "two"]


async def test_a_line_is_there_when_it_has_ended(output: Output, logs: RequestLogs) -> None:
    output.prints("q1", "one")
    record = b'\x1e{"t":1,"s":"out","l":"two","r":"q1"}'
    output.raw(record[:20])
    assert await messages(logs, output.attempt()) == ["one"]
    output.raw(record[20:] + b"\n")
    assert await messages(logs, output.attempt()) == ["one", "two"]


async def test_an_attempt_whose_runner_wrote_nothing_has_no_lines(tmp_path: Path, logs: RequestLogs) -> None:
    assert await messages(logs, Attempt("q1", 1, "a", "nowhere", AttemptState.RUNNING, 0, None, "", "")) == []


async def test_attempts_on_several_runners_follow_one_another(tmp_path: Path, output: Output, logs: RequestLogs) -> None:
    other = Output(tmp_path, "r2")
    end = output.prints("q1", "first")
    other.prints("q1", "second")
    assert await messages(logs, output.attempt(0, end), other.attempt(number=2)) == ["first", "second"]


async def test_new_lines_are_told_apart_from_those_that_were_seen(output: Output, logs: RequestLogs) -> None:
    output.prints("q1", "one", "two")
    seen = await logs.read("q1", [output.attempt()])
    output.prints("q1", "three")
    now = await logs.read("q1", [output.attempt()])
    assert [line.message for line in now.after(seen.total)] == ["three"] and now.after(now.total) == ()


async def test_of_too_many_lines_the_newest_are_kept_and_counted_on(output: Output, logs: RequestLogs) -> None:
    many = [str(n) for n in range(request_logs.MOST_LINES + 10)]
    output.prints("q1", *many)
    lines = await logs.read("q1", [output.attempt()])
    assert lines.total == len(many) and lines.lines[-1].message == many[-1]
    assert len(many) // 2 < len(lines.lines) <= request_logs.MOST_LINES
    output.prints("q1", "last")
    assert [line.message for line in (await logs.read("q1", [output.attempt()])).after(lines.total)] == ["last"]


async def test_a_request_that_prints_megabytes_holds_no_more_than_its_share(output: Output, logs: RequestLogs) -> None:
    for _ in range(8):
        output.prints("q1", *["x" * 50_000] * 10)
    lines = await logs.read("q1", [output.attempt()])
    assert lines.total == 80
    assert sum(len(line.message) for line in lines.lines) <= request_logs.MOST_CHARACTERS + request_logs.MOST_LINES * 400


async def test_forgotten_lines_are_read_again(output: Output, tmp_path: Path) -> None:
    logs = RequestLogs(RunnerLogs(tmp_path), most=100_000)
    output.prints("q1", "mine")
    assert await messages(logs, output.attempt()) == ["mine"]
    for n in range(5):
        loud = Output(tmp_path, f"loud-{n}")
        loud.prints(f"loud-{n}", "x" * 60_000)
        attempt = Attempt(f"loud-{n}", 1, "a", loud.runner_id, AttemptState.RUNNING, 0, None, "", "")
        await logs.read(f"loud-{n}", [attempt])
        loud.path.unlink()
    assert await messages(logs, output.attempt()) == ["mine"]
    assert logs.kept <= 100_000
