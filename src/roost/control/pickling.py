"""The author's class as bytes: own code by value, everything else by reference.

spec: app-class.md §1.8, app-lifecycle.md §1. By value travel the app's module (its whole top-level package if it is inside one) and
the modules in `local_python_modules`; module-level constants keep the value that they have here. What a runner will have by itself —
installed packages, the standard library, Roost — is only named. Built on cloudpickle's `Pickler`; how things come to life again is in
`wire/revive.py`.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import io
import logging
import pickle
import re
import sys
import threading
import typing
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle

from roost.control.culprit import find_culprit
from roost.control.errors import ControlError
from roost.control.late_imports import imports_of
from roost.control.neighbours import Neighbours
from roost.wire import revive
from roost.wire.pickled import Header, pack

_NOT_CONTENTS = {"__builtins__", "__loader__", "__spec__", "__cached__", "__file__", "__path__"}
_LRU_CACHE = type(functools.lru_cache(len))
_IDENTIFIER = re.compile(r"[^\W\d]\w*")


class PickleError(ControlError):
    """Something that the class refers to cannot travel to a runner: what, where, and what to do instead."""


def dumps(cls: type, local_python_modules: Sequence[str] = (), *, neighbours: Neighbours | None = None) -> bytes:
    """The contents of `app.pkl` for this class.

    Raises PickleError for what cannot travel, and ValueError if `local_python_modules` is not a list of names of modules.
    """
    with _by_value(cls, local_python_modules) as modules:
        around = neighbours or Neighbours.of(Path(getattr(sys.modules[cls.__module__], "__file__", None) or "."))
        buffer = io.BytesIO()
        pickler = AppPickler(buffer, modules, around)
        try:
            pickler.dump(cls)
        except ControlError:
            raise
        except Exception as error:
            raise _explained(cls, error, lambda thing: AppPickler(io.BytesIO(), modules, around).dump(thing)) from error
        return pack(_header(cls, modules, pickler.files), buffer.getvalue())


def _header(cls: type, modules: tuple[str, ...], files: set[str]) -> Header:
    sources: dict[str, str] = {}
    for name in sorted(files):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            sources[name] = Path(name).read_text(encoding="utf-8")
    pydantic = sys.modules.get("pydantic")
    return Header(
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        cloudpickle=cloudpickle.__version__,
        pydantic=str(pydantic.VERSION) if pydantic else "",
        class_name=f"{cls.__module__}:{cls.__qualname__}",
        by_value=modules,
        sources=sources,
    )


@contextlib.contextmanager
def _by_value(cls: type, local_python_modules: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The names of the modules that travel by value, registered with cloudpickle for as long as the block runs."""
    names = [*_own_modules(cls), *_checked(local_python_modules)]
    before = set(cloudpickle.list_registry_pickle_by_value())
    added: list[ModuleType] = []
    try:
        for name in names:
            module = _imported(name)
            if name not in before and module not in added:
                cloudpickle.register_pickle_by_value(module)
                added.append(module)
        yield tuple(dict.fromkeys([*names, *before]))
    finally:
        for module in added:
            cloudpickle.unregister_pickle_by_value(module)


def _own_modules(cls: type) -> list[str]:
    name = cls.__module__
    top = name.partition(".")[0]
    if top == "roost":
        return [name]  # our own examples: Roost itself is on the runner's path
    if name != "__main__":
        return [top]
    return [name, *_package_of_script()]


def _package_of_script() -> list[str]:
    """The top-level package that a script run as `__main__` lies in, if its other modules were imported under that name."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    found = ""
    folder = Path(file).resolve().parent if file else None
    while folder is not None and (folder / "__init__.py").is_file():
        found, folder = folder.name, folder.parent
    return [found] if found in sys.modules else []


def _checked(local_python_modules: Sequence[str]) -> list[str]:
    names: list[Any] = [local_python_modules] if isinstance(local_python_modules, str) else list(local_python_modules)
    if names == [local_python_modules] or not all(isinstance(name, str) for name in names):
        raise ValueError(f'local_python_modules is a list of names of modules, such as ["helpers"], not {local_python_modules!r}')
    return names


def _imported(name: str) -> ModuleType:
    try:
        return sys.modules.get(name) or importlib.import_module(name)
    except Exception as error:
        raise PickleError(
            f"The module {name!r} in local_python_modules cannot be imported here: {type(error).__name__}: {error}.",
            hint="It travels by value, so it must load on this machine. Import what only the runner has inside functions, or ship the module's file with app_files.",
        ) from error


def _explained(cls: type, error: Exception, attempt: Callable[[object], object]) -> PickleError:
    if isinstance(error.__cause__, RecursionError) or isinstance(error, RecursionError):
        return PickleError(
            f"{cls.__qualname__} refers to data that is nested too deeply to be sent to a runner.",
            hint="Create that data in setup() and keep it on self.",
        )
    culprit = find_culprit(cls, attempt)
    return PickleError(
        f"{culprit.where} is {culprit.what}, which cannot be sent to a runner ({error}).",
        hint="Create it in setup() and keep it on self, or inside the function that uses it: both run on the runner.",
    )


class AppPickler(cloudpickle.Pickler):
    """cloudpickle that gives by-value modules one namespace each, looks after what it cannot do, and refuses what would be missing there."""

    def __init__(self, file: Any, by_value: tuple[str, ...], neighbours: Neighbours) -> None:
        super().__init__(file, protocol=5)
        self.files: set[str] = set()
        self._by_value = by_value
        self._neighbours = neighbours
        self._looked_at: set[CodeType] = set()

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, FunctionType):
            return self._function(obj)
        if isinstance(obj, type):
            return self._class(obj)
        if isinstance(obj, ModuleType):
            return self._module(obj)
        if isinstance(obj, _LRU_CACHE):
            return self._cached(obj)
        stream = _standard_stream(obj) if obj is not None else ""
        if stream:
            return getattr, (sys, stream)
        reduce = _REDUCERS.get(type(obj))
        if reduce is not None:
            return reduce(obj)
        if type(obj).__name__ == "TypeAdapter" and type(obj).__module__ == "pydantic.type_adapter" and "_type" in vars(obj):
            inside = vars(obj)
            return revive.type_adapter, (type(obj), inside["_type"], inside.get("_config"), inside.get("_module_name") or "")
        return super().reducer_override(obj)

    # functions, classes, modules

    def _function(self, function: FunctionType) -> Any:
        home = self._home(function)
        if home is not None:
            file = home.__dict__.get("__file__")
            self.globals_ref.setdefault(id(function.__globals__), _Namespace(home.__name__, hasattr(home, "__path__"), file))
        reduced: Any = super().reducer_override(function)
        if not isinstance(reduced, tuple):
            self._by_reference(function)
            return reduced
        make, args, state, _, _, setter = reduced
        belongings = revive.Belongings()
        if home is not None:
            self.files.add(function.__code__.co_filename)
            mentioned = _identifiers(function.__annotations__) - state[1]["__globals__"].keys()
            belongings = self._belongings(home, function, mentioned, self._late_imports(home, function))
        return make, args, (setter, state, belongings), None, None, revive.set_state

    def _class(self, cls: type) -> Any:
        generic = vars(cls).get("__pydantic_generic_metadata__")
        if generic and generic["origin"]:
            # Some versions of pydantic enter `Box[int]` into its module here, where a reference would find it, but not there.
            return revive.parametrize, (generic["origin"], tuple(generic["args"]))
        is_model = "__pydantic_validator__" in vars(cls)
        if is_model and self._travels(cls.__module__):
            _resolve_fields(cls)
        reduced: Any = super().reducer_override(cls)
        if not isinstance(reduced, tuple):
            self._by_reference(cls)
            return reduced
        if len(reduced) == 2:  # NoneType and its like
            return reduced
        make, args, state, _, _, setter = reduced
        if is_model:
            _strip_compiled(state[0])
        home = sys.modules.get(cls.__module__)
        belongings = revive.Belongings()
        if home is not None and self._travels(cls.__module__):
            belongings = self._belongings(home, cls, _identifiers(inspect.get_annotations(cls)), ())
        if is_model:
            rebuild = None if hasattr(cls, "model_rebuild") else sys.modules["pydantic.dataclasses"].rebuild_dataclass
            return make, args, (setter, state, belongings, rebuild), None, None, revive.set_model_state
        return make, args, (setter, state, belongings), None, None, revive.set_state

    def _module(self, module: ModuleType) -> Any:
        name = module.__name__
        if self._travels(name) and sys.modules.get(name) is module:
            contents = {key: value for key, value in vars(module).items() if key not in _NOT_CONTENTS}
            return revive.shell, (name, hasattr(module, "__path__")), contents, None, None, revive.fill_module
        self._by_reference(module)
        return super().reducer_override(module)

    def _cached(self, wrapper: Any) -> Any:
        if not self._travels(getattr(wrapper, "__module__", None) or ""):
            return NotImplemented
        attributes = {key: value for key, value in vars(wrapper).items() if key not in ("__wrapped__", "cache_parameters")}
        return revive.cached, (wrapper.__wrapped__, wrapper.cache_parameters(), attributes)

    def _home(self, function: FunctionType) -> ModuleType | None:
        """The by-value module whose namespace the function has as its globals."""
        name = function.__globals__.get("__name__")
        module = sys.modules.get(name) if isinstance(name, str) and self._travels(name) else None
        return module if module is not None and vars(module) is function.__globals__ else None

    def _travels(self, module: str) -> bool:
        return any(module == root or module.startswith(root + ".") for root in self._by_value)

    def _belongings(self, home: ModuleType, thing: Any, mentioned: set[str], modules: tuple[ModuleType, ...]) -> revive.Belongings:
        names: dict[str, Any] = {}
        importable: dict[str, tuple[str, str]] = {}
        for name in sorted(mentioned & vars(home).keys()):
            value = vars(home)[name]
            address = self._address(value)
            if address is None:
                names[name] = value
            else:
                self._by_reference(value)
                importable[name] = address
        published = thing.__name__ if vars(home).get(thing.__name__) is thing else ""
        return revive.Belongings(home.__name__, published, names, importable, modules)

    def _address(self, value: Any) -> tuple[str, str] | None:
        """Where a runner imports this from, for a module, class or function that does not travel."""
        if isinstance(value, ModuleType):
            return None if self._travels(value.__name__) else (value.__name__, "")
        module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
        if not isinstance(value, (type, FunctionType)) or not isinstance(module, str) or self._travels(module):
            return None
        found: Any = sys.modules.get(module)
        for part in str(name).split("."):
            found = getattr(found, part, None)
        return (module, str(name)) if found is value else None

    # what would be missing on the runner

    def _by_reference(self, thing: Any) -> None:
        """Refuse what a runner would import but could not find."""
        name = thing.__name__ if isinstance(thing, ModuleType) else thing.__module__
        module = sys.modules.get(name or "")
        place = self._neighbours.left_behind(module) if module is not None else None
        if place is not None:
            what = "" if isinstance(thing, ModuleType) else f"`{thing.__qualname__}` of "
            raise self._left_behind(f"The app uses {what}the module", name, place)

    def _late_imports(self, home: ModuleType, function: FunctionType) -> tuple[ModuleType, ...]:
        """By-value modules that the function imports when it runs. Refuses names that lie beside the app and do not travel."""
        if function.__code__ in self._looked_at:
            return ()
        self._looked_at.add(function.__code__)
        found: dict[str, ModuleType] = {}
        for late in imports_of(function.__code__):
            try:
                name = (
                    importlib.util.resolve_name("." * late.level + late.name, home.__dict__.get("__package__") or "")
                    if late.level
                    else late.name
                )
            except ImportError:
                continue  # beyond the top-level package: fails here as it does there
            if self._travels(name):
                # `from package import x`: x may be a sub-module.
                for candidate in (*_prefixes(name), *(f"{name}.{attribute}" for attribute in late.attributes)):
                    module = self._late_module(function, candidate)
                    if module is not None:
                        found[candidate] = module
                continue
            place = self._neighbours.left_behind_by_name(name)
            if place is not None:
                raise self._left_behind(f"`{function.__qualname__}` imports the module", name, place)
        return tuple(found.values())

    def _late_module(self, function: FunctionType, name: str) -> ModuleType | None:
        if not self._travels(name):
            return None
        try:
            if name not in sys.modules and importlib.util.find_spec(name) is None:
                return None
            return sys.modules.get(name) or importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and name.startswith(error.name):
                return None  # an attribute of a plain module, not a sub-module
            return self._refuse_late_module(function, name, error)
        except Exception as error:
            return self._refuse_late_module(function, name, error)

    def _refuse_late_module(self, function: FunctionType, name: str, error: Exception) -> None:
        if self._neighbours.left_behind_by_name(name) is None:
            return  # it also travels as a file
        raise PickleError(
            f"`{function.__qualname__}` imports {name!r}, which travels with the class but cannot be imported here: {type(error).__name__}: {error}.",
            hint="Import what only the runner has inside functions of that module, or ship its file with app_files.",
        ) from error

    def _left_behind(self, who: str, name: str, place: Path) -> PickleError:
        return PickleError(
            f"{who} `{name}` ({self._neighbours.nickname(place)}, your own code), which would not exist on the runner.",
            hint=self._neighbours.advice(name, place),
        )


class _Namespace(dict[str, Any]):
    """Stands for the globals of a by-value module while pickling: there, it becomes the namespace of the module's shell."""

    def __init__(self, module: str, is_package: bool, file: str | None) -> None:
        super().__init__(__name__=module)
        self._args = (module, is_package, file)

    def __reduce__(self) -> Any:
        return revive.namespace, self._args


def _resolve_fields(model: Any) -> None:
    """Let a model whose annotations named something later in the file find it, while the file's names are at hand."""
    if hasattr(model, "model_rebuild") and not model.__pydantic_complete__:
        model.model_rebuild(raise_errors=False, _types_namespace=vars(sys.modules.get(model.__module__, sys)))


def _strip_compiled(contents: dict[str, Any]) -> None:
    """Leave out what pydantic compiled or cached, and the namespace that the model was defined in: fields are resolved by now."""
    for name in revive.COMPILED:
        contents.pop(name, None)
    contents["__pydantic_complete__"] = False
    if "__pydantic_parent_namespace__" in contents:
        contents["__pydantic_parent_namespace__"] = None
    if "__pydantic_setattr_handlers__" in contents:
        contents["__pydantic_setattr_handlers__"] = {}


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _identifiers(annotations: Any) -> set[str]:
    """Names in annotations that are still text (`from __future__ import annotations`, or quoted)."""
    texts = (value for value in dict(annotations).values() if isinstance(value, str))
    return {name for text in texts for name in _IDENTIFIER.findall(text)}


# values that pickle cannot do, or would do wrongly


def _standard_stream(thing: Any) -> str:
    """ "stdout", "stderr" or "stdin" if it is that stream of this process, of whatever class (notebooks and tests replace them)."""
    names = (name for name in ("stdout", "stderr", "stdin") if thing is getattr(sys, name) or thing is getattr(sys, f"__{name}__"))
    return next(names, "")


def _file(stream: Any) -> Any:
    # cloudpickle would read the whole file and send its text along.
    raise pickle.PicklingError(f"cannot pickle the open file {getattr(stream, 'name', '')!r}")


def _forward_ref(ref: Any) -> Any:
    return revive.forward_ref, (ref.__forward_arg__, ref.__forward_is_argument__, ref.__forward_module__, ref.__forward_is_class__)


def _context_var(var: contextvars.ContextVar[Any]) -> Any:
    try:
        return revive.context_var, (var.name, (contextvars.Context().run(var.get),))
    except LookupError:
        return revive.context_var, (var.name, ())


def _of_dataclasses(name: str) -> Callable[[Any], Any]:
    return lambda _: (getattr, (dataclasses, name))


def _weak_dict(kind: type) -> Callable[[Any], Any]:
    return lambda found: (kind, (dict(found),))


def _new_type(found: Any) -> Any:
    return revive.new_type, (found.__name__, found.__supertype__, found.__module__)


def _param_spec(found: Any) -> Any:
    options = {"bound": found.__bound__, "covariant": found.__covariant__, "contravariant": found.__contravariant__}
    return revive.type_parameter, (type(found), found.__name__, options, found.__module__)


def _type_var_tuple(found: Any) -> Any:
    return revive.type_parameter, (type(found), found.__name__, {}, found.__module__)


def _type_alias(found: Any) -> Any:
    return revive.type_alias, (type(found), found.__name__, found.__value__, found.__type_params__)


_REDUCERS: dict[type, Callable[[Any], Any]] = {
    io.TextIOWrapper: _file,
    typing.ForwardRef: _forward_ref,
    type(threading.Lock()): lambda _: (revive.lock, (False,)),
    type(threading.RLock()): lambda _: (revive.lock, (True,)),
    threading.local: lambda _: (threading.local, ()),
    contextvars.ContextVar: _context_var,
    typing.NewType: _new_type,
    weakref.WeakKeyDictionary: _weak_dict(weakref.WeakKeyDictionary),
    weakref.WeakValueDictionary: _weak_dict(weakref.WeakValueDictionary),
    # Compared by identity: a copy would turn "no default" into a default.
    type(dataclasses.MISSING): _of_dataclasses("MISSING"),
    type(dataclasses.KW_ONLY): _of_dataclasses("KW_ONLY"),
    logging.Logger: lambda found: (logging.getLogger, (found.name,)),
    logging.RootLogger: lambda _: (logging.getLogger, ()),
}
# Newer than the oldest Python that we run on.
for _name, _reduce in (("ParamSpec", _param_spec), ("TypeVarTuple", _type_var_tuple), ("TypeAliasType", _type_alias)):
    if hasattr(typing, _name):
        _REDUCERS[getattr(typing, _name)] = _reduce
