"""Back to what was deployed before, and fresh runners, with the commands that people type (spec: scaling-routing.md §4, cli.md §3.5)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.system.roosts import Roost

SOURCE = """
import os

import roost


class Versioned(roost.App):
    keep_alive = 300

    @roost.endpoint("/")
    def which(self, input: dict) -> dict:
        return {"version": VERSION, "pid": os.getpid()}


VERSION = 0
"""


@pytest.fixture(scope="module")
def app(roost: Roost, tmp_path_factory: pytest.TempPathFactory) -> tuple[Roost, str, str]:
    """The server with two revisions of `versioned`: the first one's id, the second one's, which serves."""
    file = tmp_path_factory.mktemp("app") / "versioned.py"
    for version in (1, 2):
        file.write_text(SOURCE.replace("VERSION = 0", f"VERSION = {version}"))
        roost.cli("deploy", str(file), "--auth", "public")
    newest, first = json.loads(roost.cli("apps", "list-rev", "versioned", "--json").stdout)["revisions"]
    assert newest["active"] and not first["active"]
    return roost, first["revision_id"], newest["revision_id"]


@contextmanager
def callers(roost: Roost) -> Iterator[list[httpx.Response]]:
    """Two callers, one call after another, for as long as the block lasts."""
    answers: list[httpx.Response] = []
    over = threading.Event()
    url = f"{roost.url}/{roost.owner}/versioned"

    def go_on() -> None:
        with httpx.Client(timeout=30) as http:
            while not over.is_set():
                answers.append(http.post(url, json={}))
                over.wait(0.02)

    threads = [threading.Thread(target=go_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def version(roost: Roost) -> int:
    return httpx.post(f"{roost.url}/{roost.owner}/versioned", json={}, timeout=30).json()["version"]


def test_a_rollback_and_the_way_forward_again_fail_no_call(app: tuple[Roost, str, str]) -> None:
    roost, first, second = app
    with callers(roost) as answers:
        said = roost.cli("apps", "set-rev", "versioned", first[:8])
        assert first in said.stdout and version(roost) == 1
        said = roost.cli("apps", "set-rev", "versioned", second, "--strategy", "recreate")
        assert version(roost) == 2
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["version"] for answer in answers} == {1, 2}


def test_a_rollout_replaces_the_runner_and_fails_no_call(app: tuple[Roost, str, str]) -> None:
    roost, _, _ = app
    before = httpx.post(f"{roost.url}/{roost.owner}/versioned", json={}, timeout=30).json()["pid"]
    with callers(roost) as answers:
        roost.cli("apps", "rollout", "versioned")
        after = httpx.post(f"{roost.url}/{roost.owner}/versioned", json={}, timeout=30).json()["pid"]
    assert {answer.status_code for answer in answers} == {200}
    assert after != before
    assert json.loads(roost.cli("apps", "rollout", "versioned", "--force", "--json").stdout)["killed"] >= 1
    assert httpx.post(f"{roost.url}/{roost.owner}/versioned", json={}, timeout=30).json()["pid"] not in (before, after)


def test_a_rollback_goes_on_through_a_restart_of_the_server(app: tuple[Roost, str, str]) -> None:
    roost, first, second = app
    roost.cli("apps", "set-rev", "versioned", second, code=None)
    command = roost.begin("apps", "set-rev", "versioned", first)
    roost.cli("restart")
    out, errors = command.communicate(timeout=60)
    assert command.returncode == 0, f"{out}{errors}"
    assert version(roost) == 1


def test_what_cannot_be_is_said_in_a_sentence(app: tuple[Roost, str, str], tmp_path: Path) -> None:
    roost, first, second = app
    roost.cli("apps", "set-rev", "versioned", second, code=None)
    for words, says in (
        (("set-rev", "versioned", second), "already"),
        (("set-rev", "versioned", "00000000"), "no revision"),
        (("set-rev", "nothing-like-it", first), "not found"),
        (("delete-rev", "versioned", second), "points to revision"),
    ):
        failed = roost.cli("apps", *words, code=1)
        assert says in failed.stderr and "Traceback" not in failed.stderr
    roost.cli("apps", "set-rev", "versioned", first, "--strategy", "sideways", code=2)
