"""The table of options: one accepted and some refused values each, and every row is the App's."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from roost import App, RetryConfig
from roost.sdk import declared, options
from roost.sdk.options import OPTIONS

ACCEPTED: dict[str, list[tuple[Any, Any]]] = {
    "app_name": [("my-app", "my-app")],
    "name": [("my-app", "my-app")],
    "app_auth": [("shared", "shared")],
    "version": [("1.2", "1.2")],
    "requirements": [
        ([], ()),
        (["a", " b==1 "], (("a", "b==1"),)),
        ([["a"], ["b"]], (("a",), ("b",))),
        (
            ("a @ https://host/a.whl", "git+https://host/x", "--find-links https://host"),
            (("a @ https://host/a.whl", "git+https://host/x", "--find-links https://host"),),
        ),
    ],
    "requirements_context_dir": [(Path("lib"), "lib")],
    "local_python_modules": [(["helpers", "pkg.sub"], ("helpers", "pkg.sub"))],
    "python_version": [("3.11", "3.11"), ("3.11.4", "3.11")],
    "resolver": [("pip", "pip")],
    "kind": [("virtualenv", "virtualenv")],
    "image": [],
    "force": [(True, True)],
    "compile_bytecode": [(False, False)],
    "app_files": [(["a", Path("b/c")], ("a", "b/c"))],
    "app_files_ignore": [([r"\.pyc$"], (r"\.pyc$",))],
    "app_files_context_dir": [("..", "..")],
    "machine_type": [("GPU-H100", ("GPU-H100",)), (["GPU-H100", "S"], ("GPU-H100", "S"))],
    "machine_types": [(["S"], ("S",))],
    "num_gpus": [(2, 2)],
    "regions": [(["us-east", "eu-west"], ("us-east", "eu-west"))],
    "keep_alive": [(0, 0), (300, 300_000), (0.5, 500)],
    "min_concurrency": [(0, 0)],
    "max_concurrency": [(1, 1)],
    "concurrency_buffer": [(1, 1)],
    "concurrency_buffer_perc": [(50, 50)],
    "scaling_delay": [(1.5, 1500)],
    "max_multiplexing": [(8, 8)],
    "request_timeout": [(60, 60_000)],
    "request_start_timeout": [(0, 0)],
    "startup_timeout": [(1800, 1_800_000)],
    "termination_grace_period_seconds": [(1, 1000), (3600, 3_600_000)],
    "skip_retry_conditions": [(["timeout"], ("timeout",))],
    "retry_config": [
        (RetryConfig(timeout=2, server_error=-1), (("timeout", 2), ("server_error", 0))),
        ({"connection_error": {"retries": 3}}, (("connection_error", 3),)),
    ],
    "secrets": [([], ()), (["HF_TOKEN"], ("HF_TOKEN",))],
    "data_mounts": [(["/data"], ("/data",))],
    "private_logs": [(True, True)],
    "exposed_port": [(8080, 8080)],
    "metrics_port": [(0, 0), (9090, 9090)],
    "limit_max_requests": [(100, 100)],
    "serve": [(True, True)],
    "metadata": [({"a": [1]}, {"a": [1]})],
    "setup_function": [(len, "len")],
    "_scheduler": [("nomad", "nomad")],
    "_scheduler_options": [({"storage_region": "us-east"}, {"storage_region": "us-east"})],
    "_base_image": [("x", "x")],
    "local_file_path": [("/app.py", "/app.py")],
    "isolate_channel": [(1, "1")],
}

REFUSED: list[tuple[str, Any, str]] = [
    ("app_name", "my app", "app_name = 'my-app'"),
    ("app_name", 7, "must be a text"),
    ("app_auth", "secret", "'private' or 'public' or 'shared'"),
    ("version", 2, "must be a text"),
    ("requirements", "numpy", r"Write \['numpy'\]"),
    ("requirements", ["a", ["b"]], "mixture"),
    ("requirements", [[["a"]]], "no requirement"),
    ("requirements", [""], "no requirement"),
    ("requirements", [".[extra]"], "app_files or local_python_modules"),
    ("local_python_modules", [pytest], "none"),
    ("local_python_modules", ["helpers.py/"], "module names"),
    ("python_version", 3.11, "a text"),
    ("python_version", "2.7", "Python version"),
    ("resolver", "poetry", "'uv' or 'pip'"),
    ("kind", "container", "no container images"),
    ("kind", "conda", "must be 'virtualenv'"),
    ("image", object(), "cannot be used yet"),
    ("force", 1, "True or False"),
    ("app_files", "data", "list of paths"),
    ("app_files", [1], "path"),
    ("app_files_ignore", ["["], "regular expressions"),
    ("machine_type", [], "empty"),
    ("machine_type", 5, "machine type"),
    ("num_gpus", -1, "0 or more"),
    ("num_gpus", True, "whole number"),
    ("regions", "us-east", r"Write \['us-east'\]"),
    ("regions", ["mars"], "knows no 'mars'"),
    ("keep_alive", -1, "0 or more"),
    ("keep_alive", "60", "number of seconds"),
    ("keep_alive", True, "number of seconds"),
    ("keep_alive", float("inf"), "number of seconds"),
    ("keep_alive", float("nan"), "number of seconds"),
    ("min_concurrency", 1.5, "whole number"),
    ("max_concurrency", 0, "1 or more"),
    ("max_multiplexing", 0, "1 or more"),
    ("request_timeout", 0, "more than 0"),
    ("startup_timeout", 0, "more than 0"),
    ("request_start_timeout", -1, "0 or more"),
    ("termination_grace_period_seconds", 0.5, "from 1 to 3600"),
    ("termination_grace_period_seconds", 3601, "from 1 to 3600"),
    ("skip_retry_conditions", ["oom"], "knows no 'oom'"),
    ("retry_config", {}, "empty"),
    ("retry_config", {"oom": {"retries": 1}}, "no condition 'oom'"),
    ("retry_config", {"timeout": {"retries": "2"}}, "whole number"),
    ("retry_config", 3, "RetryConfig"),
    ("secrets", "A", "list of names"),
    ("data_mounts", ["data"], "absolute"),
    ("exposed_port", 0, "from 1 to 65535"),
    ("metrics_port", 65_536, "from 0 to 65535"),
    ("metadata", {"a": object()}, "JSON"),
    ("setup_function", 3, "function"),
]


def test_each_option_has_its_line_of_cases():
    assert set(ACCEPTED) == set(OPTIONS)


@pytest.mark.parametrize(("name", "value", "parsed"), [(name, *case) for name, cases in ACCEPTED.items() for case in cases])
def test_an_accepted_value_becomes_what_the_wire_carries(name: str, value: Any, parsed: Any):
    assert options.parse(OPTIONS[name], value) == parsed


@pytest.mark.parametrize(("name", "value", "says"), REFUSED)
def test_a_refused_value_is_an_error_that_names_the_option_and_says_what_is_meant(name: str, value: Any, says: str):
    with pytest.raises(ValueError, match=says) as caught:
        options.parse(OPTIONS[name], value)
    assert str(caught.value).startswith(name)


@pytest.mark.parametrize("name", OPTIONS)
def test_none_says_nothing(name: str):
    assert options.parse(OPTIONS[name], None) is None


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_works_as_a_keyword_and_unless_it_is_a_plain_word_as_an_attribute(name: str):
    option = OPTIONS[name]
    target = option.stands_for or name
    company = {"app_files": ["."]} if name == "app_files_context_dir" else {}
    for value, parsed in ACCEPTED[name]:
        with pytest.warns(UserWarning, match="never called") if name == "setup_function" else nullcontext():
            keyword = type("X", (App,), {}, **{name: value}, **company)
        assert declared.parsed(keyword, target) == parsed
        if not option.keyword_only:
            attribute = type("X", (App,), {name: value, **company})
            assert declared.parsed(attribute, target) == parsed


def test_the_class_declares_exactly_the_attributes_of_the_table():
    attributes = {name for name, option in OPTIONS.items() if not option.keyword_only and not name.startswith("_")}
    assert {*App.__annotations__} - {"host_kwargs"} == attributes
    assert get_type_hints(RetryConfig)  # the hints of public dataclasses resolve
    for name in attributes:
        assert getattr(App, name) == OPTIONS[name].default


def test_defaults_are_those_of_the_public_sdk():
    assert (App.machine_type, App.keep_alive, App.version, App.resolver) == ("S", 60, "unknown", "uv")
    assert App.app_files_ignore == [r"\.pyc$", r"__pycache__/", r"\.git/", r"\.DS_Store$"]


def test_the_reference_lists_every_option_and_says_which_have_no_effect_yet():
    reference = options.render_reference()
    for name, option in OPTIONS.items():
        line = next(line for line in reference.splitlines() if line.startswith(f"| `{name}` |"))
        assert (options.MEANS_NOTHING_YET in line) == (not option.now and not option.stands_for)
        assert line.count("|") == 5
