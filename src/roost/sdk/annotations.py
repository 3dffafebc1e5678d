"""Annotations of endpoints as values, so that they survive the way to a runner.

With `from __future__ import annotations` an annotation is a text, and FastAPI looks its names up in the function's globals. A class that
is pickled by value takes along only those globals that its code uses, and annotations are not code: on the runner the names would be gone.
So they are evaluated here, on the author's side, and stored back as values.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, cast

from roost.sdk import endpoint


class UnresolvedAnnotation(TypeError):
    """An annotation of an endpoint names something that is not there when the class is deployed."""


def resolve_annotations(cls: type) -> None:
    """Evaluate the textual annotations of the class's endpoints, and of functions they depend on, in place. May be called again.

    Raises UnresolvedAnnotation, which names the method and the missing name.
    """
    for name in [*endpoint.collect(cls), "health"]:
        method = inspect.getattr_static(cls, name, None)
        if inspect.isfunction(method):
            _resolve(method, _nested_types(cls), f"{cls.__name__}.{name}()", set())


def _resolve(function: Callable[..., Any], nested: dict[str, Any], owner: str, seen: set[int]) -> None:
    if id(function) in seen:
        return
    seen.add(id(function))
    # FastAPI reads the outer function's annotations, with the globals of the innermost: decorators may stand between.
    names = getattr(inspect.unwrap(function), "__globals__", {})
    layer: Any = function
    while layer is not None:
        annotations: dict[str, Any] = getattr(layer, "__annotations__", {})
        for parameter, annotation in annotations.items():
            annotations[parameter] = _evaluate(annotation, names, nested, f"{parameter!r} of {owner}")
        layer = getattr(layer, "__wrapped__", None)
    for dependency in _dependencies(function):
        target = dependency.__init__ if inspect.isclass(dependency) else dependency
        if inspect.isfunction(target):
            _resolve(target, {}, f"{getattr(dependency, '__name__', dependency)}()", seen)


def _evaluate(annotation: Any, names: dict[str, Any], nested: dict[str, Any], where: str) -> Any:
    """The annotation's value: of a text, and of texts inside it (`list["Input"]`)."""
    if not isinstance(annotation, str) and not _holds_text(annotation):
        return annotation
    holder = {"it": _with_references(annotation)}

    def bearer() -> None: ...

    bearer.__annotations__ = holder
    try:
        value = typing.get_type_hints(bearer, names, nested, include_extras=True)["it"]
    except NameError as error:
        raise UnresolvedAnnotation(
            f"the annotation {annotation!r} of {where} cannot be used: {error}. Define or import the name at module level "
            "(not under TYPE_CHECKING and not inside a function)"
        ) from error
    except Exception as error:
        raise UnresolvedAnnotation(f"the annotation {annotation!r} of {where} cannot be used: {type(error).__name__}: {error}") from error
    # `-> None` as a value means "no response model" to FastAPI; its type would be a model that only null fits.
    return None if value is type(None) else value


def _with_references(annotation: Any) -> Any:
    """`list["Input"]` as `list[ForwardRef("Input")]`: Python 3.10 does not look into the built-in generics."""
    if not isinstance(annotation, types.GenericAlias):
        return annotation
    parts = (typing.ForwardRef(part) if isinstance(part, str) else _with_references(part) for part in annotation.__args__)
    return types.GenericAlias(cast("type", annotation.__origin__), tuple(parts))


def _holds_text(annotation: Any) -> bool:
    if isinstance(annotation, typing.ForwardRef):
        return True
    if typing.get_origin(annotation) is typing.Literal:
        return False
    return any(isinstance(part, str) or _holds_text(part) for part in typing.get_args(annotation)[: _type_arguments(annotation)])


def _type_arguments(annotation: Any) -> int | None:
    """How many of get_args() are types: of Annotated only the first, the rest is metadata that may well be text."""
    return 1 if hasattr(annotation, "__metadata__") else None


def _nested_types(cls: type) -> dict[str, Any]:
    """Models written inside the class's body, which is where its annotations would look first."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        found.update({name: member for name, member in vars(base).items() if inspect.isclass(member)})
    return found


def _dependencies(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """What `Depends(...)` in a signature points at; told by its shape, as FastAPI is not loaded here."""
    for parameter in inspect.signature(function).parameters.values():
        for marker in (parameter.default, *getattr(parameter.annotation, "__metadata__", ())):
            dependency = getattr(marker, "dependency", None)
            if callable(dependency) and type(marker).__module__.partition(".")[0] == "fastapi":
                yield cast("Callable[..., Any]", dependency)
