from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.core.model import Recipe
from roost.core.recipe import Index, allows, conflicts, key, parse, recipe
from roost.wire.spec import AppSpec

SPEC = AppSpec("app", "App", "3.11", requirements=(("numpy>=1.26", "pillow"),), pins=("fastapi==0.115.0", "pydantic==2.11.3"))
LINUX = "linux-x86_64-glibc2.36"


def key_of(spec: AppSpec, platform: str = LINUX, index: Index | None = None) -> str:
    return key(recipe(spec), platform, index or Index())


def with_layers(*layers: tuple[str, ...]) -> AppSpec:
    return replace(SPEC, requirements=layers)


def test_a_recipe_is_the_normalised_spec() -> None:
    spec = with_layers((" Pillow ", "numpy >= 1.26", "pillow", ""), (), ("Torch[CPU, opt] ==2.5.0, !=2.6",))
    assert recipe(spec) == Recipe(
        "3.11", (("numpy>=1.26", "pillow"), ("torch[cpu,opt]!=2.6,==2.5.0",)), ("fastapi==0.115.0", "pydantic==2.11.3"), "uv"
    )


@pytest.mark.parametrize(
    "same",
    [("pillow", "numpy>=1.26"), ("NumPy >= 1.26", "Pillow"), ("pillow", "pillow", "numpy>=1.26"), ("# weights", "pillow", "numpy>=1.26")],
)
def test_what_makes_the_same_environment_has_the_same_key(same: tuple[str, ...]) -> None:
    assert key_of(with_layers(same)) == key_of(SPEC)


@pytest.mark.parametrize(
    "other",
    [
        with_layers(("numpy>=1.26",), ("pillow",)),
        with_layers(("pillow",), ("numpy>=1.26",)),
        with_layers(("numpy>=1.27", "pillow")),
        replace(SPEC, python_version="3.12"),
        replace(SPEC, pins=("fastapi==0.115.0", "pydantic==2.11.4")),
        replace(SPEC, resolver="pip"),
    ],
)
def test_what_makes_another_environment_has_another_key(other: AppSpec) -> None:
    assert key_of(other) != key_of(SPEC)


def test_the_order_of_layers_counts() -> None:
    assert key_of(with_layers(("a",), ("b",))) != key_of(with_layers(("b",), ("a",)))


def test_platform_and_index_are_part_of_the_key() -> None:
    index = Index("https://packages.example/simple")
    assert (
        len(
            {
                key_of(SPEC),
                key_of(SPEC, "linux-aarch64-glibc2.36"),
                key_of(SPEC, index=index),
                key_of(SPEC, index=Index(find_links=("/w",))),
            }
        )
        == 4
    )


def test_a_key_never_changes_between_versions_by_accident() -> None:
    # A new key means that every environment of every server is built again: raise recipe.FORMAT only on purpose.
    assert key_of(SPEC) == "380b4cb2450f1d7d2fd162dc6c4d9ba2"


def test_what_does_not_concern_packages_does_not_concern_the_key() -> None:
    assert key_of(replace(SPEC, name="other", max_multiplexing=4, force=True)) == key_of(SPEC)


@pytest.mark.parametrize(
    ("line", "again"),
    [
        ("numpy", "numpy"),
        ("Foo_Bar.baz", "foo-bar-baz"),
        ("uvicorn[standard] >=0.30,<1", "uvicorn[standard]<1,>=0.30"),
        ("torch==2.*", "torch==2.*"),
        ("a ~= 1.4.2", "a~=1.4.2"),
    ],
)
def test_simple_requirements_are_understood(line: str, again: str) -> None:
    assert str(parse(line)) == again


@pytest.mark.parametrize(
    "line",
    [
        "numpy; python_version<'3.9'",
        "pkg @ https://files.example/pkg.whl",
        "git+https://git.example/x",
        "--no-deps",
        "./local",
        "a==1.0rc1",
        "a===1",
        "a~=1",
        "a>=1.*",
        "a>=1,",
        "torch==2.5.0+cpu",
        "",
    ],
)
def test_what_is_not_simple_is_left_alone(line: str) -> None:
    assert parse(line) is None
    layers = recipe(with_layers((line, "z"))).layers
    assert layers == ((line, "z"),) if line else (("z",),)


@pytest.mark.parametrize(
    ("version", "operator", "operand", "yes"),
    [
        ((2, 11), "==", "2.11.0", True),
        ((2, 11, 3), "==", "2.11", False),
        ((2, 11, 3), "==", "2.*", True),
        ((2, 11, 3), "!=", "2.11.*", False),
        ((2, 11, 3), "~=", "2.5", True),
        ((3, 0), "~=", "2.5", False),
        ((2, 5, 9), "~=", "2.5.1", True),
        ((2, 6, 0), "~=", "2.5.1", False),
        ((2, 10), ">", "2.9", True),
        ((2, 9), "<", "2.10", True),
        ((2,), "<=", "2.0.0", True),
        ((2, 0, 1), ">=", "2.1", False),
    ],
)
def test_versions_compare_as_numbers(version: tuple[int, ...], operator: str, operand: str, yes: bool) -> None:
    assert allows(version, operator, operand) is yes


def test_a_requirement_that_excludes_the_pinned_version_names_both_and_the_fix() -> None:
    found = conflicts([["numpy"], ["pydantic >=1.10,<2"]], SPEC.pins)
    assert found is not None
    assert (found.requirement, found.pin) == ("pydantic >=1.10,<2", "pydantic==2.11.3")
    assert "'pydantic >=1.10,<2'" in found.detail
    assert "pydantic 2.11.3" in found.detail
    assert "Install the pydantic you require where you deploy from" in found.hint


@pytest.mark.parametrize("line", ["FastAPI[standard]==0.110", "fastapi~=0.110.0", "fastapi!=0.115.*", "fastapi>0.115"])
def test_conflicts_are_found_whatever_the_comparison(line: str) -> None:
    assert conflicts([[line]], SPEC.pins) is not None


@pytest.mark.parametrize(
    "line",
    [
        "fastapi",
        "fastapi>=0.100,<1",
        "pydantic~=2.7",
        "fastapi==0.115",
        "pydantic-settings<2",
        "pydantic<2; python_version<'3.9'",
        "pydantic==2.0b1",
    ],
)
def test_no_conflict_is_claimed_where_there_is_none_or_where_only_the_resolver_can_tell(line: str) -> None:
    assert conflicts([[line]], SPEC.pins) is None


def test_a_pin_that_is_no_plain_release_is_left_to_the_resolver() -> None:
    assert conflicts([["pydantic<2"]], ["pydantic==2.12.0b1"]) is None


@given(st.lists(st.lists(st.text(max_size=20), max_size=4).map(tuple), max_size=3).map(tuple))
def test_normalising_is_done_once_and_never_raises(layers: tuple[tuple[str, ...], ...]) -> None:
    once = recipe(with_layers(*layers))
    assert recipe(with_layers(*once.layers)) == once
    conflicts(layers, SPEC.pins)
