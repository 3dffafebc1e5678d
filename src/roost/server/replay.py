"""`python -m roost.server.replay`: a question about an app's past on stdin, its answer on stdout; both JSON.

A process of its own, and a nice one: a replay is pure computing, which in the server would take the interpreter from the calls that it serves.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, Final

from roost.core import whatif
from roost.core.model import Scale
from roost.core.whatif import Lived, Past
from roost.data.traffic import Traffic

MOST_CALLS: Final = 250_000
"""Of all rows of the answer together: ten seconds, or half a minute on a busy machine."""
LIMIT_S: Final = 50
"""Of processor time, and a little more of any. Who asks over HTTP waits for a minute."""
_MEMORY: Final = 1024 * 1024 * 1024
_NICENESS: Final = 15


def question(folder: Path, application: str, since_ms: int, until_ms: int, lives: list[Lived], scales: list[Scale]) -> str:
    """What `main` understands."""
    asked = {
        "folder": str(folder),
        "application": application,
        "since_ms": since_ms,
        "until_ms": until_ms,
        "lives": lives,
        "scales": [dataclasses.asdict(scale) for scale in scales],
    }
    return json.dumps(asked)


def answer(asked: dict[str, Any], most_calls: int = MOST_CALLS) -> dict[str, Any]:
    """`since_ms` of what was replayed (later than asked for when there are too many calls), the figures measured, and those of each scale.

    The first of the scales is the one that was in force.
    """
    scales = [Scale(**{**scale, "machine_types": tuple(scale["machine_types"])}) for scale in asked["scales"]]
    since_ms, until_ms = asked["since_ms"], asked["until_ms"]
    most = most_calls // max(1, len(scales))
    calls = Traffic(Path(asked["folder"])).read(asked["application"], since_ms, until_ms, most)
    since_ms = calls[0].at_ms if len(calls) == most else since_ms
    past = Past(since_ms, until_ms, tuple(calls), tuple(Lived(*life) for life in asked["lives"]), scales[0])
    begin = time.perf_counter()
    figures = [dataclasses.asdict(whatif.replayed(past, scale)) for scale in scales]
    return {
        "since_ms": since_ms,
        "starts_known": len(past.cold_ms),
        "recorded": dataclasses.asdict(whatif.measured(past)),
        "replayed": figures,
        "took_ms": round((time.perf_counter() - begin) * 1000),
    }


def main() -> None:
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    json.dump(answer(json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
