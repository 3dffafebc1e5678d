from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from roost.control.errors import ControlError
from roost.control.examples import Example, packaged_examples


def test_examples_are_read_from_the_index_with_their_files_as_data_uris(tmp_path: Path) -> None:
    (tmp_path / "hi.txt").write_text("hi")
    rows = [
        {"name": "id", "title": "What is it", "app": "id.py::Id", "input": {"files": [{"$file": "hi.txt"}], "n": 1}, "expect": ["Text"]}
    ]
    (tmp_path / "index.json").write_text(json.dumps(rows))
    (example,) = packaged_examples(tmp_path)
    assert example == Example(
        name="id",
        title="What is it",
        reference=f"{tmp_path}/id.py::Id",
        endpoint="/",
        input={"files": ["data:text/plain;base64,aGk="], "n": 1},
        expect=("Text",),
        body='{"files": ["%s"], "n": 1}',
        files=(tmp_path / "hi.txt",),
    )


def test_an_answer_is_right_if_every_expected_text_is_in_it_whatever_its_case() -> None:
    example = Example("x", "", "", "/", {}, ("Hello", "world"))
    assert example.is_right('{"text": "HELLO, World"}')
    assert not example.is_right('{"text": "hello"}')


def test_what_is_worth_a_look_is_shown_or_else_everything() -> None:
    example = Example("x", "", "", "/", {}, (), show=("text", "count"))
    assert example.shown('{"count": 2, "text": "a\\nb", "boxes": []}') == "a\nb\n2"
    assert example.shown('{"text": "a"}') == '{"text": "a"}'
    assert example.shown("[1]") == "[1]"
    assert example.shown("no JSON") == "no JSON"
    assert Example("x", "", "", "/", {}, ()).shown('{"text": "a"}') == '{"text": "a"}'


@pytest.mark.parametrize("value", ["it's 100 %s", 'a "quote" and a \\', 5, None, ["$HOME", {"deep": "`id`"}]])
@pytest.mark.parametrize("with_file", [True, False])
def test_a_pasted_line_sends_the_example_s_input(tmp_path: Path, value: object, with_file: bool) -> None:
    (tmp_path / "a file").write_bytes(b"\x00\xff")
    given = {"value": value, **({"file": {"$file": "a file"}} if with_file else {})}
    (tmp_path / "index.json").write_text(json.dumps([{"name": "x", "title": "", "app": "x.py", "input": given, "expect": []}]))
    (example,) = packaged_examples(tmp_path)
    # curl that prints what it was told to send.
    curl = 'curl() { if [ "$5" = @- ]; then cat; else printf %s "$5"; fi; }; '
    sent = subprocess.run(["bash", "-c", curl + example.curl("http://h/x")], capture_output=True, check=True).stdout
    assert json.loads(sent) == {"value": value, **({"file": "AP8="} if with_file else {})}


def test_an_installation_without_examples_says_so(tmp_path: Path) -> None:
    with pytest.raises(ControlError) as failed:
        packaged_examples(tmp_path)
    assert "no examples" in failed.value.detail


def test_the_packaged_examples_are_all_there() -> None:
    examples = packaged_examples()
    assert {"hello", "ocr", "identify"} <= {example.name for example in examples}
    for example in examples:
        assert Path(example.reference.partition("::")[0]).is_file()
        assert example.expect
