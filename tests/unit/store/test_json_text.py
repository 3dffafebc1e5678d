from __future__ import annotations

import json
from typing import Any, NoReturn

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roost.store.json_text import is_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def no_number(text: str) -> NoReturn:
    raise ValueError(text)


def told_by_json(body: bytes) -> bool:
    try:
        json.loads(body.decode(), parse_constant=no_number)
    except ValueError:
        return False
    return True


@given(VALUES, st.booleans())
def test_what_is_written_as_json_is_json(value: Any, plain: bool) -> None:
    assert is_json(json.dumps(value, ensure_ascii=plain).encode("utf-8", "replace"))


@given(st.text(alphabet='[]{},:"\\/ntu0159.-+eE \n\t\x00\x0b\x1fäNaf', max_size=12))
@example("NaN")
@example("-Infinity")
@example('{"a":1}\0more')
@example("\ufeff1")
@example("01")
@example("'a'")
@example("/**/1")
@example('"\\ud800"')
@example("\x0c1")
def test_it_agrees_with_the_standard_library(text: str) -> None:
    assert is_json(text.encode()) == told_by_json(text.encode())


@pytest.mark.parametrize("body", [b"\xff", b'"\xc3"', '{"a": 1}'.encode("utf-16"), b"[" * 100_000 + b"]" * 100_000, b""])
def test_other_encodings_and_endless_nesting_are_none(body: bytes) -> None:
    assert not is_json(body)
