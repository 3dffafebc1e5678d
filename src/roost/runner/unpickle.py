"""From `app.pkl` to the author's class, in the author's environment. The only place of Roost that unpickles.

Standard library and the copied cloudpickle only: this runs before anything of the author is known to work.
"""

from __future__ import annotations

import io
import linecache
import pickle
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from roost.wire import revive
from roost.wire.pickled import Header, unpack


class LoadError(Exception):
    """The class cannot be loaded here, and the author can do something about it: what and why in `detail`, what now in `hint`."""

    def __init__(self, detail: str, *, hint: str = "", missing: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.missing = missing
        """The module that is not there, for a missing import."""


def load_class(path: Path) -> type:
    """The author's class. Raises LoadError for what the author's settings can mend; other errors of the author's code come as they are."""
    try:
        header, body = unpack(path.read_bytes())
    except ValueError as error:
        raise LoadError(f"{path.name} cannot be read: {error}.", hint="Deploy the app again.") from error
    _check(header)
    for name, text in header.sources.items():
        # No modification time: linecache never drops such an entry, although the file is not on this machine.
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    revive.begin(header.by_value)
    try:
        cls: Any = pickle.Unpickler(io.BytesIO(body)).load()
        revive.finish()
    except ModuleNotFoundError as error:
        raise _missing(header, error) from error
    if not isinstance(cls, type):
        raise LoadError(f"{path.name} holds {cls!r} instead of a class.", hint="Deploy the app again.")
    return cls


def _check(header: Header) -> None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if header.python != here:
        raise LoadError(
            f"The app was pickled by Python {header.python} and this runner is Python {here}.",
            hint="Both must be the same minor version: deploy with that Python, or set python_version.",
        )
    import cloudpickle

    if header.cloudpickle != cloudpickle.__version__:
        raise LoadError(
            f"The app was pickled by cloudpickle {header.cloudpickle} and this runner has {cloudpickle.__version__}.",
            hint=f"On the machine that deploys: pip install cloudpickle=={cloudpickle.__version__}",
        )
    installed = _installed("pydantic")
    if header.pydantic and installed and header.pydantic != installed:
        raise LoadError(
            f"The app's models were made by pydantic {header.pydantic} and this runner has {installed}; models do not load under another version.",
            hint=f"Remove what brings pydantic {installed} into `requirements`, or install it where you deploy.",
        )


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _missing(header: Header, error: ModuleNotFoundError) -> LoadError:
    name = error.name or str(error)
    top = name.partition(".")[0]
    return LoadError(
        f"{header.class_name} needs the module {name!r}, which is not in its environment.",
        hint=(
            f"If a package provides it, add that package to `requirements`. If it is your own code, add {top!r} to `local_python_modules`"
            f" (it travels with the class) or its file to `app_files`."
        ),
        missing=name,
    )
