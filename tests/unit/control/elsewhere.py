"""Another machine: a process where no file of the author exists, as a runner has it.

It is started once and forks for each question: a question then costs milliseconds, and no answer knows of another.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_PROGRAM = """
import json, os, sys
sys.path[:0] = json.loads(sys.argv[1])
import fastapi, pydantic, cloudpickle, roost.sdk.app
from pathlib import Path
from roost.runner.unpickle import load_class

def answer(question):
    sys.path[:0] = question["path"]
    try:
        cls = load_class(Path(question["pickle"]))
        return {"value": eval(question["expression"], {"cls": cls, "app": cls.__new__(cls), "sys": sys, "load_class": load_class})}
    except BaseException as error:
        import traceback
        return {"raised": type(error).__name__, "text": str(error), "hint": getattr(error, "hint", ""), "trace": traceback.format_exc()}

for line in sys.stdin:
    if os.fork() == 0:
        print(json.dumps(answer(json.loads(line)), default=str), flush=True)
        os._exit(0)
    os.wait()
"""


class Failed(Exception):
    """What the other machine raised."""

    def __init__(self, raised: str, text: str, hint: str, trace: str) -> None:
        super().__init__(f"{raised}: {text}\n{trace}")
        self.raised = raised
        self.text = text
        self.hint = hint
        self.trace = trace


class Elsewhere:
    def __init__(self, folder: Path, python: str = sys.executable, path: tuple[str, ...] = ()) -> None:
        self._folder = folder
        arguments = [python, "-I", "-c", _PROGRAM, json.dumps(path)]
        self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, env={})

    def ask(self, pickled: bytes, expression: str, path: tuple[str, ...] = ()) -> Any:
        """The value of the expression over `cls` and `app` (an instance), through JSON. Raises Failed."""
        assert self._process.stdin is not None and self._process.stdout is not None
        (self._folder / "app.pkl").write_bytes(pickled)
        self._process.stdin.write(json.dumps({"pickle": str(self._folder / "app.pkl"), "expression": expression, "path": path}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "raised" in answer:
            raise Failed(**answer)
        return answer["value"]

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
