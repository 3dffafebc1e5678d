"""What a class says, in its header and in its body, and what is refused."""

from __future__ import annotations

import pytest

import roost
from roost.sdk import declared
from roost.sdk.app import name_of


def test_an_attribute_wins_over_a_keyword_and_a_keyword_over_host_kwargs():
    class X(roost.App, keep_alive=2, startup_timeout=2):
        keep_alive = 1
        host_kwargs = {"keep_alive": 3, "startup_timeout": 3, "max_multiplexing": 3}

    assert (X.keep_alive, X.startup_timeout, X.max_multiplexing) == (1, 2, 3)


def test_a_class_wins_over_the_class_it_inherits_from():
    class Base(roost.App, machine_type="L", force=True):
        keep_alive = 10
        requirements = ["numpy"]

    class Child(Base, keep_alive=20): ...

    assert (Child.keep_alive, Child.machine_type, Child.requirements) == (20, "L", ["numpy"])
    assert declared.value(Child, "force") is True
    assert declared.value(roost.App, "force") is None


def test_names_derive_per_class_unless_one_is_set():
    class Base(roost.App): ...

    class MyChild(Base): ...

    class Kid(Base, name="kid-1"): ...

    class GrandKid(Kid): ...

    class Named(Kid):
        app_name = "named"

    assert [name_of(cls) for cls in (Base, MyChild, Kid, GrandKid, Named)] == ["base", "my-child", "kid-1", "kid-1", "named"]


def test_a_derived_name_that_no_url_can_hold_is_an_error():
    cls = type("_", (roost.App,), {})
    with pytest.raises(ValueError, match="app_name"):
        name_of(cls)


@pytest.mark.parametrize(
    ("keyword", "near"),
    [("machine_typ", "machine_type"), ("keepalive", "keep_alive"), ("auth", None), ("qqqq", None), ("min_concurency", "min_concurrency")],
)
def test_an_unknown_keyword_is_an_error_with_a_suggestion(keyword: str, near: str | None):
    with pytest.raises(ValueError, match=f"X: Unrecognised option '{keyword}'") as caught:
        type("X", (roost.App,), {}, **{keyword: 1})
    assert ("Did you mean" in str(caught.value)) == ("auth" in keyword or near is not None)
    assert near is None or f"Did you mean '{near}'?" in str(caught.value)


def test_two_spellings_of_one_option_are_an_error():
    with pytest.raises(ValueError, match="mean the same"):

        class X(roost.App, name="a", app_name="b"): ...


def test_an_error_of_a_value_names_the_class():
    with pytest.raises(ValueError, match=r"^Slow: keep_alive must be a number of seconds"):

        class Slow(roost.App):
            keep_alive = "long"  # pyright: ignore[reportAssignmentType]


@pytest.mark.parametrize(
    ("attribute", "value", "near"),
    [
        ("machine_typ", "GPU", "machine_type"),
        ("requirement", [], "requirements"),
        ("keepalive", 3, "keep_alive"),
        ("max_multiplexin", 3, "max_multiplexing"),
    ],
)
def test_an_attribute_that_is_almost_an_option_is_an_error(attribute: str, value: object, near: str):
    with pytest.raises(ValueError, match=f"Did you mean '{near}'"):
        type("X", (roost.App,), {attribute: value})


@pytest.mark.parametrize(
    "attribute",
    ["region", "image_size", "images", "secret", "timeout", "model_version", "name", "kinds", "_machine_typ", "force", "metadata"],
)
def test_data_of_the_author_is_left_alone(attribute: str):
    cls = type("X", (roost.App,), {attribute: "mine"})
    assert getattr(cls, attribute) == "mine"


def test_an_attribute_that_a_method_uses_is_data_of_the_author():
    class X(roost.App):
        machine_typ = "steam"
        requirement = "coal"

        def setup(self) -> None:
            print([self.machine_typ for _ in "x"], getattr(self, "requirement"))  # noqa: B009

    assert X.machine_typ == "steam"


def test_options_that_need_each_other_are_checked_together():
    with pytest.raises(ValueError, match="without app_files"):

        class A(roost.App, app_files_context_dir=".."): ...

    with pytest.raises(ValueError, match="min_concurrency 3 is more than max_concurrency 2"):

        class B(roost.App, min_concurrency=3, max_concurrency=2): ...


def test_a_constructor_is_refused_also_one_that_is_inherited():
    class Mixin:
        def __init__(self) -> None: ...

    with pytest.raises(ValueError, match=r"A: an App has no __init__ .* setup\(\)"):

        class A(roost.App):
            def __init__(self) -> None: ...

    with pytest.raises(ValueError, match="B: an App has no __init__"):

        class B(Mixin, roost.App): ...


def test_an_app_is_not_made_by_hand_outside_of_a_runner(monkeypatch: pytest.MonkeyPatch):
    class X(roost.App): ...

    with pytest.raises(NotImplementedError, match=r"AppClient\.local\(X\)"):
        X()
    monkeypatch.setenv("IS_ISOLATE_AGENT", "1")
    assert X().current_request is None
