"""Flows of the official Python client, run by a Python that has it: `python flows direct queued.NAME ...` does these.

Each flow is a function that raises when the client meets something else than it should. One line of JSON a flow goes to stdout:
{"flow": "module.function", "failure": null or the traceback, "seconds": n}. Flows run side by side: most of what they do is wait.
"""

from __future__ import annotations

import inspect
import json
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import asynchronous
import direct
import doors
import interrupted
import queued

MODULES = (direct, queued, asynchronous, doors, interrupted)
AT_ONCE = 8


def flows(module: ModuleType) -> dict[str, Callable[[], None]]:
    """The public functions that a module itself defines, in its order."""
    return {
        f"{module.__name__}.{name}": function
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
    }


def outcome(name: str, flow: Callable[[], None]) -> str:
    begin, failure = time.monotonic(), None
    try:
        flow()
    except Exception:
        failure = traceback.format_exc()
    return json.dumps({"flow": name, "failure": failure, "seconds": round(time.monotonic() - begin, 2)})


def main(wanted: list[str]) -> None:
    chosen = {name: flow for module in MODULES for name, flow in flows(module).items() if name in wanted or module.__name__ in wanted}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for line in pool.map(lambda item: outcome(*item), chosen.items()):
            print(line, flush=True)


main(sys.argv[1:])
