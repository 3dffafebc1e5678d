from __future__ import annotations

import pytest
import typer

from roost.cli.author import Changes, changed
from roost.cli.deploy import parse_annotations
from roost.wire.manifest import Manifest
from roost.wire.spec import AppSpec

MANIFEST = Manifest(AppSpec("hello", "Hello", "3.11", machine_types=("S", "M")), "0" * 64, "0.1.0", {})


def test_annotations_are_pairs_and_values_may_hold_equals_signs() -> None:
    assert parse_annotations(["commit=abc", "url=http://h/?a=b", "empty="]) == (("commit", "abc"), ("url", "http://h/?a=b"), ("empty", ""))


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        (["commit"], "NAME=VALUE"),
        (["=x"], "NAME=VALUE"),
        (["a=1", "a=2"], "same name"),
        (["openapi=x"], "reserved"),
        ([f"k{i}=v" for i in range(33)], "at most 32"),
        ([f"{'k' * 65}=v"], "at most 64 characters"),
        ([f"k={'v' * 16384}"], "16384 bytes"),
    ],
)
def test_annotations_outside_of_the_protocols_limits_are_refused(items: list[str], complaint: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        parse_annotations(items)
    assert complaint in refused.value.message.replace("with names of at most", "at most")


def test_flags_that_were_not_given_change_nothing() -> None:
    assert changed(MANIFEST, Changes()) == MANIFEST


def test_flags_win_over_the_class() -> None:
    result = changed(MANIFEST, Changes("other", "XL", no_cache=True, message="why", annotations=(("k", "v"),)))
    assert (result.spec.name, result.spec.machine_types, result.spec.force) == ("other", ("XL",), True)
    assert (result.message, result.annotations) == ("why", (("k", "v"),))
