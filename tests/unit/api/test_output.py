"""What a group of runners prints, as one sequence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from roost.api.output import Output
from roost.core.model import Runner, RunnerState
from roost.data.logs import RunnerLogs

NOW = 1_000_000


def record(at_ms: int, text: str) -> str:
    return "\x1e" + json.dumps({"t": at_ms, "s": "out", "l": text}) + "\n"


async def test_the_past_of_a_runner_that_prints_faster_than_it_is_read_has_an_end(tmp_path: Path) -> None:
    logs = RunnerLogs(tmp_path)
    logs.path("r1").write_text(record(NOW, "before"))
    looks = 0

    async def find() -> Sequence[Runner]:
        nonlocal looks
        looks += 1
        with logs.path("r1").open("a") as file:
            file.write(record(NOW + looks, f"during {looks}"))
        return [Runner("r1", "me", "app", "rev", RunnerState.IDLE, 1, "XS", "", 0, 0, None, None, None, "")]

    output = Output(logs, find)
    assert [line.message for line in await output.past(NOW)] == ["before", "during 1", "during 2"]
    assert [line.message for line in await output.poll()] == ["during 3"]
