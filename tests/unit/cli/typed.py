"""A command as somebody types it, against a server that answers from a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from roost.cli.main import main
from tests.unit.cli.served import served

Answers = Mapping[tuple[str, str], tuple[int, Any]]
"""Status and JSON by method and path; what is not there is a 404."""


@dataclass(frozen=True)
class Typed:
    code: int
    out: str
    err: str
    asked: list[httpx.Request]

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def typist(answers: Answers, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path) -> Callable[..., Typed]:
    """Types the words after `roost`, in a shell where nothing of ours is set but a key."""
    monkeypatch.setenv("ROOST_HOME", str(home))
    monkeypatch.setenv("ROOST_KEY", "id:secret")
    for name in ("ROOST_HOST", "ROOST_PROFILE", "ROOST_CONFIG", "ROOST_DEBUG", "ROOST_RUNNER"):
        monkeypatch.delenv(name, raising=False)

    def type_it(*words: str) -> Typed:
        asked: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            status, body = answers.get((request.method, request.url.path), (404, {"detail": "not found", "error_type": "not_found"}))
            return httpx.Response(status, json=body)

        with served(answer) as host:
            code = main([*words, "--host", host])
        printed = capsys.readouterr()
        return Typed(code, printed.out, printed.err, asked)

    return type_it
