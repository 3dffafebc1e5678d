"""Kinds of option values: what is accepted, in words, and the plain value that it becomes.

`parse` answers the value as the wire carries it (milliseconds, tuples) or raises ValueError with the rest of a sentence that begins
with the option's name: "must be ...".
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from roost.sdk import names, retry


@dataclass(frozen=True)
class Kind:
    """`text` completes "must be ..." and is what the reference shows."""

    text: str
    parse: Callable[[object], Any]


def whole(at_least: int, at_most: int | None = None) -> Kind:
    text = f"a whole number, {at_least} or more" if at_most is None else f"a whole number from {at_least} to {at_most}"

    def parse(value: object) -> int:
        # True is an int to Python; `min_concurrency = True` is a mistake to everybody else.
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least or (at_most is not None and value > at_most):
            raise ValueError(f"must be {text}, not {value!r}")
        return value

    return Kind(text, parse)


def seconds(at_least: float, at_most: float | None = None, *, above: bool = False) -> Kind:
    """Seconds where a person types them, milliseconds from here on. `above`: the lower bound itself is refused."""
    bound = f"more than {at_least:g}" if above else f"{at_least:g} or more"
    text = f"seconds, {bound}" if at_most is None else f"seconds, from {at_least:g} to {at_most:g}"

    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not at_least <= value < float("inf"):
            raise ValueError(f"must be a number of {text}, not {value!r}")
        if (above and value == at_least) or (at_most is not None and value > at_most):
            raise ValueError(f"must be a number of {text}, not {value!r}")
        return round(value * 1000)

    return Kind(text, parse)


def flag() -> Kind:
    def parse(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"must be True or False, not {value!r}")
        return value

    return Kind("True or False", parse)


def text(what: str = "a text") -> Kind:
    def parse(value: object) -> str:
        if not isinstance(value, str) or not value:
            raise ValueError(f"must be {what}, not {value!r}")
        return value

    return Kind(what, parse)


def choice(*allowed: str) -> Kind:
    listed = " or ".join(repr(item) for item in allowed)

    def parse(value: object) -> str:
        if value not in allowed:
            raise ValueError(f"must be {listed}, not {value!r}")
        return cast("str", value)

    return Kind(listed, parse)


def texts(what: str = "a list of texts", *, check: Callable[[str], None] | None = None) -> Kind:
    def parse(value: object) -> tuple[str, ...]:
        items = _list(value, what)
        for item in items:
            if not isinstance(item, str) or not item:
                raise ValueError(f"must be {what}; {item!r} is none")
            if check is not None:
                check(item)
        return cast("tuple[str, ...]", items)

    return Kind(what, parse)


def one_or_more_texts(what: str) -> Kind:
    """A text, or a list of them in order of preference."""
    several = texts(what)

    def parse(value: object) -> tuple[str, ...]:
        items = several.parse([value] if isinstance(value, str) else value)
        if not items:
            raise ValueError(f"must be {what}; the list is empty")
        return items

    return Kind(what, parse)


def chosen(*allowed: str) -> Kind:
    """A list of some of these."""

    def check(item: str) -> None:
        if item not in allowed:
            raise ValueError(f"knows no {item!r}. It may hold {', '.join(allowed)}")

    return texts(f"a list of {', '.join(allowed)}", check=check)


def regexes() -> Kind:
    def check(item: str) -> None:
        try:
            re.compile(item)
        except re.error as error:
            raise ValueError(f"holds regular expressions; {item!r} is none: {error}") from None

    return texts("a list of regular expressions", check=check)


def modules() -> Kind:
    def check(item: str) -> None:
        if not all(part.isidentifier() for part in item.split(".")):
            raise ValueError(f"must be a list of module names such as 'helpers' or 'package.module'; {item!r} is none")

    return texts("a list of module names", check=check)


def absolute_paths() -> Kind:
    def check(item: str) -> None:
        if not item.startswith("/"):
            raise ValueError(f"must be a list of absolute paths such as '/data'; {item!r} is none")

    return texts("a list of absolute paths", check=check)


def path() -> Kind:
    def parse(value: object) -> str:
        if not isinstance(value, (str, os.PathLike)) or not os.fspath(cast("str", value)):
            raise ValueError(f"must be a path, not {value!r}")
        return os.fspath(cast("str", value))

    return Kind("a path", parse)


def paths() -> Kind:
    one = path()

    def parse(value: object) -> tuple[str, ...]:
        return tuple(one.parse(item) for item in _list(value, "a list of paths"))

    return Kind("a list of paths", parse)


def requirements() -> Kind:
    """A list of pip requirements, or a list of such lists: layers, installed in order."""

    def parse(value: object) -> tuple[tuple[str, ...], ...]:
        items = _list(value, _REQUIREMENTS)
        nested = [isinstance(item, (list, tuple)) for item in items]
        if any(nested) and not all(nested):
            raise ValueError(f"must be {_REQUIREMENTS}, not a mixture of both")
        layers = [_list(item, _REQUIREMENTS) for item in items] if any(nested) else [items]
        return tuple(tuple(_requirement(item) for item in layer) for layer in layers if layer)

    return Kind(_REQUIREMENTS, parse)


_REQUIREMENTS = "a list of pip requirements, or a list of such lists (layers)"
_LOCAL_PATH = re.compile(r"^(\.|~|/)")


def _requirement(item: object) -> str:
    if not isinstance(item, str) or not item.strip():
        raise ValueError(f"must be {_REQUIREMENTS}; {item!r} is no requirement")
    if _LOCAL_PATH.match(item):
        raise ValueError(
            f"cannot hold a local folder yet ({item!r} is one): the server does not have it. Ship code with app_files or local_python_modules"
        )
    return item.strip()


def python_version() -> Kind:
    def parse(value: object) -> str:
        match = re.fullmatch(r"(3\.\d{1,2})(\.\d+)?", value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"must be a Python version such as '3.11' (a text), not {value!r}")
        return match.group(1)

    return Kind("a Python version such as '3.11'", parse)


def app_name() -> Kind:
    def parse(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"must be a text, not {value!r}")
        return names.check(value)

    return Kind("a name that can stand in a URL", parse)


def retries() -> Kind:
    def parse(value: object) -> tuple[tuple[str, int], ...]:
        return retry.parse(value).pairs()

    return Kind("a RetryConfig or {'timeout': {'retries': 2}}", parse)


def json_object() -> Kind:
    def parse(value: object) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise ValueError(f"must be a dict, not {value!r}")
        try:
            return cast("dict[str, Any]", json.loads(json.dumps(value)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"must hold JSON values only: {error}") from None

    return Kind("a dict of JSON values", parse)


def function() -> Kind:
    def parse(value: object) -> str:
        if not callable(value):
            raise ValueError(f"must be a function, not {value!r}")
        return getattr(value, "__qualname__", repr(value))

    return Kind("a function", parse)


def environment_kind() -> Kind:
    def parse(value: object) -> str:
        if value == "container":
            raise ValueError("cannot be 'container' yet: this version has no container images. List packages in `requirements`")
        if value != "virtualenv":
            raise ValueError(f"must be 'virtualenv' for an App, not {value!r}")
        return "virtualenv"

    return Kind("'virtualenv'", parse)


def nothing_yet(instead: str) -> Kind:
    """An option of the public SDK that has no value in this version: saying it must not be ignored in silence."""

    def parse(value: object) -> object:
        raise ValueError(f"cannot be used yet, got {value!r}. {instead}")

    return Kind("None", parse)


def anything() -> Kind:
    def parse(value: object) -> str:
        return repr(value)

    return Kind("any value", parse)


def _list(value: object, what: str) -> tuple[object, ...]:
    if not isinstance(value, (list, tuple)):
        hint = f". Write [{value!r}]" if isinstance(value, str) else ""
        raise ValueError(f"must be {what}, not {value!r}{hint}")
    return tuple(cast("list[object]", value))
