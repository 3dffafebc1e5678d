from __future__ import annotations

import json

from roost.core.model import Recipe, RunnerState, Scale
from roost.store.columns import any_of, dump_recipe, dump_scale, load_recipe, load_scale
from roost.store.driver import Value


def test_scale_and_recipe_come_back_as_they_were() -> None:
    scale = Scale(max_concurrency=3, request_start_timeout_ms=9, machine_types=("S", "GPU-H100"))
    recipe = Recipe("3.11", (("numpy", "pillow"), ("magika",)), ("pydantic==2.11",), "pip")
    assert load_scale(dump_scale(scale)) == scale
    assert load_recipe(dump_recipe(recipe)) == recipe


def test_a_newer_servers_fields_are_dropped_and_an_older_ones_get_their_default() -> None:
    assert load_scale('{"max_concurrency": 3, "from_the_future": 1}') == Scale(max_concurrency=3)
    older = json.dumps({"python_version": "3.11", "layers": [["numpy"]], "pins": [], "from_the_future": 1})
    assert load_recipe(older) == Recipe("3.11", (("numpy",),), ())


def test_a_list_of_states_becomes_bound_parameters() -> None:
    args: dict[str, Value] = {"id": "x"}
    assert any_of([RunnerState.IDLE, RunnerState.RUNNING], args) == "(:s0, :s1)"
    assert args == {"id": "x", "s0": "IDLE", "s1": "RUNNING"}
    assert any_of([], {}) == "(NULL)"
