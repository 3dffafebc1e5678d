"""`roost env` as it is typed, at servers that say little or nothing of TLS. What works with TLS is tried in tests/system."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.typed import Typed, typist

NO_TLS = {"http": "http://127.0.0.1:8700", "https": None, "connect": None, "public": "http://127.0.0.1:8700", "ca": None, "bundle": None}


@pytest.fixture
def roost(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Typed]:
    return typist({("GET", "/v1/addresses"): (200, NO_TLS)}, capsys, monkeypatch, tmp_path)


@pytest.mark.parametrize("flag", ["", "--shell", "--python"])
def test_without_tls_it_says_what_to_do_and_prints_nothing_to_evaluate(roost: Callable[..., Typed], flag: str):
    done = roost("env", *flag.split())
    assert done.code == 1 and done.out == ""
    assert "TLS" in done.err and 'tls = "on"' in done.err and "roost env --js" in done.err


def test_javascript_needs_no_tls(roost: Callable[..., Typed]):
    done = roost("env", "--js")
    assert done.code == 0 and 'credentials: "id:secret"' in done.out and '/api/fal/proxy", when: "always"' in done.out
    assert "keep them out of what you publish" in done.err


def test_programs_hear_of_the_door_and_that_there_is_no_more(roost: Callable[..., Typed]):
    assert roost("env", "--json").json["env"] == {}


def test_the_key_is_not_sent_to_ask(roost: Callable[..., Typed]):
    assert [request.headers.get("authorization") for request in roost("env", "--js").asked] == [None]


def test_two_formats_at_once_are_wrong_usage(roost: Callable[..., Typed]):
    done = roost("env", "--js", "--python")
    assert done.code == 2 and "one or the other" in done.err


def test_an_older_server_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    done = typist({}, capsys, monkeypatch, tmp_path)("env")
    assert done.code == 1 and "of this version or a newer one" in done.err


def test_without_a_key_it_says_where_one_comes_from(roost: Callable[..., Typed], monkeypatch: pytest.MonkeyPatch):
    for name in ("ROOST_KEY", "FAL_KEY", "FAL_KEY_ID", "FAL_KEY_SECRET"):
        monkeypatch.delenv(name, raising=False)
    done = roost("env")
    assert done.code == 1 and "There is no key" in done.err and done.asked == []


def test_an_address_with_tls_that_does_not_answer_is_named(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    answers = {("GET", "/v1/addresses"): (200, {**NO_TLS, "https": "https://127.0.0.1:1"})}
    done = typist(answers, capsys, monkeypatch, tmp_path)("env")
    assert done.code == 1 and done.out == "" and "https://127.0.0.1:1" in done.err
