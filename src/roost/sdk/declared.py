"""What one class declares: options are taken from its header and its body, checked, and read back.

A class's own attribute wins over its own keyword, its own keyword over `host_kwargs`, and all of them over what it inherits.
"""

from __future__ import annotations

import types
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, cast

from roost.sdk import options
from roost.sdk.options import OPTIONS, Option

KEYWORDS = "_roost_keywords"
_SURE = 0.9
"""How similar an unused attribute must be to an option to be called a misspelling."""


def take(cls: type, keywords: Mapping[str, object]) -> None:
    """Store the class's keywords, then check everything it says. Raises ValueError that names the class."""
    try:
        own = _host_kwargs(cls)
        own.update(_unique(keywords))
        if own.get("setup_function") is not None:
            # Accepted so that the class loads; a function that is dropped without a word would cost somebody an evening.
            warnings.warn(f"{cls.__name__}: setup_function is never called. Move what it does into setup()", stacklevel=4)
        _store(cls, own)
        check(cls)
        _refuse_misspelt(cls)
    except ValueError as error:
        raise ValueError(f"{cls.__name__}: {error}") from None


def check(cls: type) -> None:
    """Raise ValueError for the first option whose value, or whose company, is wrong."""
    for option in OPTIONS.values():
        options.parse(option, value(cls, option.name))
    if value(cls, "app_files_context_dir") is not None and not value(cls, "app_files"):
        raise ValueError("app_files_context_dir has no meaning without app_files. Name the files, or remove it")
    low, high = value(cls, "min_concurrency"), value(cls, "max_concurrency")
    if low is not None and high is not None and low > high:
        raise ValueError(f"min_concurrency {low} is more than max_concurrency {high}")


def value(cls: type, name: str) -> Any:
    """What the author said, or the default of the table."""
    option = OPTIONS[name]
    if option.keyword_only:
        return getattr(cls, KEYWORDS, {}).get(name, option.default)
    return getattr(cls, name, option.default)


def parsed(cls: type, name: str) -> Any:
    """The value as the wire carries it."""
    return options.parse(OPTIONS[name], value(cls, name))


def _host_kwargs(cls: type) -> dict[str, object]:
    given = vars(cls).get("host_kwargs")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ValueError(f"host_kwargs must be a dict of options, not {given!r}")
    return _unique(cast("dict[str, object]", given))


def _unique(keywords: Mapping[str, object]) -> dict[str, object]:
    """Keywords by the names of the options they mean. Raises ValueError for unknown ones and for two spellings of one."""
    found: dict[str, object] = {}
    for name, given in keywords.items():
        option = options.by_keyword(name)
        if option.name in found:
            raise ValueError(f"'{name}' and '{option.name}' mean the same. Keep one")
        found[option.name] = given
    return found


def _store(cls: type, own: dict[str, object]) -> None:
    hidden: dict[str, object] = dict(getattr(cls, KEYWORDS, {}))
    for name, given in own.items():
        if OPTIONS[name].keyword_only:
            # A function would be pickled with the class for nothing: its name is all that is ever shown.
            hidden[name] = given
        elif name not in vars(cls):
            setattr(cls, name, given)
    setattr(cls, KEYWORDS, hidden)


def _refuse_misspelt(cls: type) -> None:
    """An attribute that nobody reads and that is spelt almost like an option is a mistake that would otherwise be silent."""
    known = [name for name, option in OPTIONS.items() if _long_enough(option)]
    used = set(_names_used(cls))
    for name, given in vars(cls).items():
        if name in OPTIONS or name.startswith("_") or name in used or not _plain(given):
            continue
        if any(hasattr(base, name) for base in cls.__mro__[1:]):
            continue
        near = options.similar(name, known, at_least=_SURE)
        if near is not None:
            raise ValueError(f"Unrecognised option '{name}'. Did you mean '{near}'? (If it is data of your own, begin it with '_'.)")


def _long_enough(option: Option) -> bool:
    # Short plain words (`image`, `regions`, `secrets`) have innocent neighbours.
    return not option.keyword_only and ("_" in option.name.strip("_") or len(option.name) > 10)


def _plain(given: object) -> bool:
    return isinstance(given, (str, int, float, list, tuple, dict, set))


def _names_used(cls: type) -> Iterator[str]:
    for member in vars(cls).values():
        function = getattr(member, "__func__", getattr(member, "fget", member))
        if isinstance(function, types.FunctionType):
            yield from _names_of(function.__code__)


def _names_of(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_of(constant)
        elif isinstance(constant, str):
            yield constant  # getattr(self, "name")
