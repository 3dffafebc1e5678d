"""An app from its bundle to an instance that only lacks setup(): in a runner of its own, or in a template for many."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roost.runner.dispatch import AsgiApp


@dataclass(frozen=True)
class Loaded:
    """What a template hands to its forks."""

    app: Any
    asgi: Any = None
    """The app's ASGI application; None where the author's own code takes part in making it, which may need what setup() did."""
    front: AsgiApp | None = None
    """The same, with direct dispatch in front of it."""
    chosen: frozenset[str] = frozenset()
    """Variables of the environment that the app's imports and preload() set: forks keep them."""


def enter(bundle: str, working_dir: str) -> None:
    """Begin in the folder of the app's files, from which it may also import."""
    folder = os.path.join(bundle, "files", working_dir)
    if os.path.isdir(folder):
        os.chdir(folder)
        sys.path.append(folder)


def load_app(bundle: str) -> Any:
    """The instance that will serve. Raises LoadError, and whatever the author's imports raise."""
    # Late: everything that the author's environment may lack must fail inside the caller's report.
    from roost.runner.unpickle import load_class
    from roost.sdk.app import create

    return create(load_class(Path(bundle) / "app.pkl"))


def assemble_early(app: Any) -> Loaded:
    """With the ASGI application made before setup(), if it will be the same after it: no hook of the framework is the author's own."""
    from roost.runner.direct import in_front_of
    from roost.sdk.app import App
    from roost.sdk.asgi import build_asgi

    hooks = ("_build_app", "_add_extra_middlewares", "_add_extra_routes", "lifespan")
    if any(getattr(type(app), hook) is not getattr(App, hook) for hook in hooks):
        return Loaded(app)
    asgi = build_asgi(app)
    return Loaded(app, asgi, in_front_of(asgi, app))


def still_fits(app: Any) -> bool:
    """After setup(): whether it put nothing on the instance in place of a method that the early application calls."""
    return vars(app).keys().isdisjoint((*type(app).collect_routes(), "health", "provide_hints"))
