from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from roost.cli.body import BadBody, Body, body_of


def _no_stdin() -> bytes:
    raise AssertionError("stdin was read")


def _json(*words: str) -> Any:
    body = body_of(words, _no_stdin)
    assert body is not None and body.content_type == "application/json"
    return json.loads(body.content)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (['{"a": 1}'], {"a": 1}),
        (["[1, 2]"], [1, 2]),
        (["3"], 3),
        (['"text"'], "text"),
        (["prompt=a cat"], {"prompt": "a cat"}),
        (["url=http://h/?a=b:=c"], {"url": "http://h/?a=b:=c"}),
        (["steps:=4", "fast:=true", "name=x"], {"steps": 4, "fast": True, "name": "x"}),
        (["empty="], {"empty": ""}),
        (["a[b][c]=1", "a[d]:=2"], {"a": {"b": {"c": "1"}, "d": 2}}),
        (["tags[]=x", "tags[]=y"], {"tags": ["x", "y"]}),
        (["items[][n]:=1", "items[][n]:=2"], {"items": [{"n": 1}, {"n": 2}]}),
        (['o:={"k": [1]}'], {"o": {"k": [1]}}),
    ],
    ids=str,
)
def test_words_make_a_json_body(words: list[str], value: Any) -> None:
    assert _json(*words) == value


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["{broken"], "is not JSON"),
        (["hello"], "is not JSON"),
        (["a=1", "hello"], "'hello' is not key=text or key:=json"),
        (["n:=four"], "'n:=four' is not JSON"),
        (["a=1", "a[b]=2"], "does not fit the words before it"),
        (["a[]=1", "a[b]=2"], "takes only []"),
        (["@/nowhere/at/all"], "Cannot read /nowhere/at/all"),
    ],
    ids=str,
)
def test_words_that_make_no_body_are_named(words: list[str], complaint: str) -> None:
    with pytest.raises(BadBody) as refused:
        body_of(words, _no_stdin)
    assert complaint in str(refused.value)


def test_no_words_are_no_body() -> None:
    assert body_of([], _no_stdin) is None


def test_a_file_is_sent_as_it_is_under_the_type_of_its_name(tmp_path: Path) -> None:
    picture = tmp_path / "sign.png"
    picture.write_bytes(b"\x89PNG")
    assert body_of([f"@{picture}"], _no_stdin) == Body(b"\x89PNG", "image/png")


@pytest.mark.parametrize(("content", "kind"), [(b'{"a": 1}\n', "application/json"), (b"\xff\x00", "application/octet-stream")])
def test_stdin_is_sent_as_it_is_and_its_type_is_looked_at(content: bytes, kind: str) -> None:
    assert body_of(["-"], lambda: content) == Body(content, kind)
