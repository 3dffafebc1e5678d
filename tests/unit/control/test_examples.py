from __future__ import annotations

import json
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
        "id", "What is it", f"{tmp_path}/id.py::Id", "/", {"files": ["data:text/plain;base64,aGk="], "n": 1}, ("Text",)
    )


def test_an_answer_is_right_if_every_expected_text_is_in_it_whatever_its_case() -> None:
    example = Example("x", "", "", "/", {}, ("Hello", "world"))
    assert example.is_right('{"text": "HELLO, World"}')
    assert not example.is_right('{"text": "hello"}')


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
