"""The callables that an app's pickle names: how by-value modules, functions, classes and models come to life in a runner.

`control/pickling.py` writes references to these functions, `runner/unpickle.py` runs them. Their names and arguments are a format:
the runtime folder of the author's own version serves the pickle, so both ends are always of one version.

A module that travels by value gets a *shell*: a module object in `sys.modules` that no file stands behind. All functions of the
module share the shell's namespace as their globals, so `typing.get_type_hints`, dataclasses, pydantic, `pickle` and a late
`import helpers` find what they look for.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
import os
import sys
import threading
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

_shells: dict[str, ModuleType] = {}
_by_value: set[str] = set()
_unfinished: list[tuple[Any, Callable[..., Any] | None]] = []
_adapters: list[tuple[Any, Any, Any, str]] = []

COMPILED = ("__pydantic_core_schema__", "__pydantic_validator__", "__pydantic_serializer__")
"""What pydantic-core compiled for a model: it does not survive a pickle when models refer to each other."""


@dataclass(frozen=True, slots=True)
class Belongings:
    """What comes along with a function or class because its code will look for it at run time."""

    module: str = ""
    """The by-value module that the object lives in; "" if there is none."""
    published_as: str = ""
    """Its name in that module, if it is found there."""
    names: dict[str, Any] = field(default_factory=dict[str, Any])
    """Globals of the module that only text annotations mention."""
    importable: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """The same for things that are imported: name -> (module, attribute or ""). Left out where they cannot be: annotations alone need nothing installed."""
    modules: tuple[ModuleType, ...] = ()
    """By-value modules that the code imports when it runs."""


def begin(by_value: tuple[str, ...]) -> None:
    """Name the modules (with all below them) that this pickle brings along."""
    _by_value.update(by_value)


def shell(name: str, is_package: bool = False) -> ModuleType:
    """The stand-in for a by-value module, made on first use and entered into `sys.modules`."""
    if name in _shells:
        return _shells[name]
    module = ModuleType(name)
    parent, _, last = name.rpartition(".")
    module.__package__ = name if is_package else parent
    if is_package:
        # Sub-modules that came as files (app_files) are found below the folders of this name.
        folders = (os.path.join(entry or os.curdir, *name.split(".")) for entry in sys.path)
        module.__path__ = [folder for folder in folders if os.path.isdir(folder)]
    _shells[name] = module
    sys.modules[name] = module
    if parent:
        setattr(_parent(parent), last, module)
    return module


def _parent(name: str) -> ModuleType:
    if not any(name == root or name.startswith(root + ".") for root in _by_value):
        try:
            return importlib.import_module(name)
        except ImportError:
            pass  # only a part of that package came along, by value; the rest is not here
    return shell(name, is_package=True)


def namespace(name: str, is_package: bool, file: str | None) -> dict[str, Any]:
    """The globals that the functions of a by-value module share."""
    found = vars(shell(name, is_package))
    if file:
        found["__file__"] = file
    return found


def fill_module(module: ModuleType, contents: dict[str, Any]) -> None:
    vars(module).update(contents)


def set_state(thing: Any, state: tuple[Callable[[Any, Any], object], Any, Belongings]) -> None:
    """Complete a function or class that cloudpickle made, and enter it and its belongings into the shell of its module."""
    setter, inner, belongings = state
    setter(thing, inner)
    if not belongings.module:
        return
    names = vars(shell(belongings.module))
    if belongings.published_as:
        names[belongings.published_as] = thing
    for name, value in belongings.names.items():
        names.setdefault(name, value)
    for name, (module, attribute) in belongings.importable.items():
        if name in names:
            continue
        try:
            imported: Any = importlib.import_module(module)
            for part in attribute.split(".") if attribute else ():
                imported = getattr(imported, part)
        except Exception:
            # Only an annotation mentions it, and this environment is without it: who evaluates that annotation gets the NameError.
            continue
        names[name] = imported


# pydantic: compiled validators stay behind and are made anew


def set_model_state(model: Any, state: tuple[Callable[[Any, Any], object], Any, Belongings, Callable[..., Any] | None]) -> None:
    """As `set_state`, for a pydantic model or dataclass, which `finish` compiles when all that it refers to is there.

    The last item is what rebuilds a dataclass; a model does that itself.
    """
    setter, inner, belongings, rebuild = state
    set_state(model, (setter, inner, belongings))
    _unfinished.append((model, rebuild))


def parametrize(origin: Any, arguments: tuple[Any, ...]) -> Any:
    """`Box[int]` of a generic model, through pydantic itself so that a later `Box[int]` is the same class."""
    made = origin[arguments]
    _unfinished.append((made, None))
    return made


def type_adapter(kind: Any, of: Any, config: Any, module: str) -> Any:
    """A TypeAdapter, which `finish` initialises when the models that it refers to are complete."""
    made = kind.__new__(kind)
    _adapters.append((made, of, config, module))
    return made


def finish() -> None:
    """Compile every model. All are marked incomplete first: a schema made from a neighbour's half-loaded one would be wrong for good."""
    models, _unfinished[:] = list(_unfinished), []
    adapters, _adapters[:] = list(_adapters), []
    for model, _ in models:
        for attribute in COMPILED:
            if attribute in vars(model):
                delattr(model, attribute)
        model.__pydantic_complete__ = False
    for model, rebuild in models:
        where = _names_of(model.__module__)
        if rebuild is None:
            model.model_rebuild(force=True, raise_errors=False, _types_namespace=where)
        else:
            rebuild(model, force=True, raise_errors=False, _types_namespace=where)
    for adapter, of, config, module in adapters:
        adapter.__init__(of, config=config)
        if getattr(adapter, "pydantic_complete", True) is False:
            adapter.rebuild(raise_errors=False, _types_namespace=_names_of(module))


def _names_of(module: str) -> dict[str, Any]:
    found = sys.modules.get(module)
    return {} if found is None else vars(found)


# things of the standard library that do not pickle, or not by value


def cached(function: Callable[..., Any], parameters: dict[str, Any], attributes: dict[str, Any]) -> Any:
    """An `lru_cache` wrapper, empty: what was cached there belongs to that machine."""
    made = functools.lru_cache(**parameters)(function)
    vars(made).update(attributes)
    return made


def lock(reentrant: bool) -> Any:
    return threading.RLock() if reentrant else threading.Lock()


def forward_ref(text: str, is_argument: bool, module: Any, is_class: bool) -> Any:
    return typing.ForwardRef(text, is_argument=is_argument, module=module, is_class=is_class)


def new_type(name: str, supertype: Any, module: str) -> Any:
    made: Any = typing.NewType(name, supertype)  # pyright: ignore[reportArgumentType] - a checker wants to read the name in the source
    made.__module__ = module
    return made


def type_parameter(kind: Any, name: str, options: dict[str, Any], module: str) -> Any:
    """A ParamSpec or TypeVarTuple."""
    made = kind(name, **options)
    made.__module__ = module
    return made


def type_alias(kind: Any, name: str, value: Any, parameters: tuple[Any, ...]) -> Any:
    """`type name[parameters] = value`."""
    return kind(name, value, type_params=parameters)


def context_var(name: str, default: tuple[Any, ...]) -> Any:
    """A ContextVar with its default, if it has one: (value,) or ()."""
    kind: Any = contextvars.ContextVar
    return kind(name, default=default[0]) if default else kind(name)
