"""From what the author typed to the class: find the file, import it, pick the app (spec: cli.md §3.1, app-class.md §1.8).

A file inside a package is imported under its dotted name, a lone file under its own name. Everything at the top level of the file
runs here, on the author's machine, exactly once.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import keyword
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from roost.control.errors import ControlError
from roost.control.project import ProjectApp, find_apps
from roost.sdk.options import similar

_PRIVATE = "roost_app_"
_SDK = Path(__file__).parent.parent / "sdk"


class LoadError(ControlError):
    """There is no app to be had from what was asked for. `traceback` is the author's own, if their code raised."""

    def __init__(self, detail: str, *, hint: str = "", trace: str = "") -> None:
        super().__init__(detail, hint=hint)
        self.traceback = trace


@dataclass(frozen=True)
class LoadedApp:
    """A class that is ready to be run here or bundled."""

    cls: type
    path: Path
    """The file that was asked for, absolute."""
    module_name: str
    package_root: Path | None = None
    """The folder that holds the top-level package, if the file is inside one."""
    name: str | None = None
    """From pyproject.toml; None: the class says it."""
    auth: str | None = None
    """From pyproject.toml; None: the class says it."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Options from pyproject.toml; they are on the class already, where it does not set them itself."""
    settings_folder: Path | None = None
    """The folder of that pyproject.toml."""


def resolve(reference: str | None, cwd: Path) -> LoadedApp:
    """The app that `path/file.py`, `path/file.py::Name` or a key of pyproject.toml means; None: the only one there is.

    Raises LoadError or ProjectError: one sentence with what to do.
    """
    cwd = cwd.resolve()
    if reference is None:
        return _only_one(cwd)
    if _is_path(reference):
        path, name = _split(reference, cwd)
        return load(path, name)
    apps = find_apps(cwd)
    if reference in apps:
        return _of_project(apps[reference])
    near = similar(reference, list(apps), at_least=0.6)
    if near:
        hint = f"Did you mean {near!r}?"
    elif apps:
        hint = f"pyproject.toml has {', '.join(apps)}; or give a file: path/file.py or path/file.py::ClassName."
    else:
        hint = "Give a file: path/file.py or path/file.py::ClassName."
    raise LoadError(f"There is no file or pyproject.toml app called {reference!r}.", hint=hint)


def load(path: Path, class_name: str | None = None) -> LoadedApp:
    """Import one file and pick its app."""
    path = path.resolve()
    if path.is_dir():
        raise LoadError(f"{path} is a folder.", hint="Give the file in it that has the App: path/file.py.")
    if not path.is_file():
        raise LoadError(f"There is no file {path}.", hint=_files_nearby(path))
    package_root = _package_root(path)
    module = _import_from_package(path, package_root) if package_root else _import_alone(path)
    return LoadedApp(_pick(module, path, class_name), path, module.__name__, package_root)


def of_class(cls: type) -> LoadedApp:
    """A class that this program has already. Raises LoadError if no file has it, as in an interactive session."""
    try:
        path = Path(inspect.getfile(cls)).resolve()
    except (TypeError, OSError) as error:
        raise LoadError(f"No file has the class {cls.__name__}.", hint="Write it into a file and import it from there.") from error
    return LoadedApp(cls, path, cls.__module__, _package_root(path))


# what was asked for


def _is_path(reference: str) -> bool:
    return "::" in reference or reference.endswith(".py") or "/" in reference


def _split(reference: str, cwd: Path) -> tuple[Path, str | None]:
    file, _, name = reference.partition("::")
    return (cwd / Path(file).expanduser()), name or None


def _only_one(cwd: Path) -> LoadedApp:
    apps = find_apps(cwd)
    if len(apps) == 1:
        return _of_project(next(iter(apps.values())))
    if apps:
        raise LoadError(f"pyproject.toml has several apps: {', '.join(apps)}.", hint="Say which one.")
    files = [file for file in sorted(cwd.glob("*.py")) if _mentions_app(file)]
    if len(files) == 1:
        return load(files[0])
    if files:
        raise LoadError(f"Several files here may have an App: {', '.join(file.name for file in files)}.", hint="Say which one.")
    raise LoadError(f"There is no file with an App in {cwd}.", hint="Give one: path/file.py or path/file.py::ClassName.")


def _mentions_app(file: Path) -> bool:
    """Whether a class in the file has a base called App. Read, not run: files that were not asked for must not run."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return False
    bases = [base for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases]
    return any(ast.unparse(base).rpartition(".")[2] == "App" for base in bases)


def _of_project(app: ProjectApp) -> LoadedApp:
    path, class_name = _split(app.ref, app.file.parent)
    found = load(path, class_name)
    _apply(found.cls, app)
    return LoadedApp(found.cls, found.path, found.module_name, found.package_root, app.name, app.auth, app.settings, app.file.parent)


def _apply(cls: type, app: ProjectApp) -> None:
    """Give the class the settings of pyproject.toml that neither it nor a parent of the author's sets."""
    import roost
    from roost.sdk import declared

    own = cls.__mro__[: cls.__mro__.index(roost.App)]
    for name, value in app.settings.items():
        if not any(name in vars(base) for base in own):
            setattr(cls, name, value)
    try:
        declared.check(cls)
    except ValueError as error:
        raise LoadError(f"The app {app.key!r} in {app.file} has a setting that cannot be used: {error}.") from error


def _files_nearby(path: Path) -> str:
    near = similar(path.name, [file.name for file in path.parent.glob("*.py")], at_least=0.6) if path.parent.is_dir() else None
    return f"Did you mean {path.parent / near}?" if near else "Check the path; it is relative to the folder that you are in."


# importing


def _package_root(path: Path) -> Path | None:
    folder = path.parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        folder = folder.parent
    return None if folder == path.parent else folder


def _import_from_package(path: Path, root: Path) -> ModuleType:
    parts = path.relative_to(root).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    top = sys.modules.get(parts[0])
    if top is not None and not _lies_in(top, root / parts[0]):
        raise LoadError(
            f"{path} is in the package {parts[0]!r}, but another package of that name is loaded from {getattr(top, '__file__', None)}.",
            hint="Rename the folder, or remove its __init__.py if it is not meant to be a package.",
        )
    _put_first(root)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise _raised(path, error) from error


def _import_alone(path: Path) -> ModuleType:
    name = _name_for(path)
    if name.startswith(_PRIVATE):
        # The file hides another module of its name: that one must stay the first to be found.
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))
    else:
        _put_first(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        # A half-run module must not be what the next import finds.
        if before is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = before
        raise _raised(path, error) from error
    return module


def _name_for(path: Path) -> str:
    """The stem, unless code would mean another module by it: `json.py`, or a file `magika.py` that imports magika on the runner."""
    stem = path.stem
    if not stem.isidentifier() or keyword.iskeyword(stem):
        return _PRIVATE + re.sub(r"\W", "_", stem)
    taken = (
        stem in sys.stdlib_module_names or stem in ("roost", "__main__") or _is_another_module(stem, path) or _imports_its_own_name(path)
    )
    return _PRIVATE + stem if taken else stem


def _is_another_module(stem: str, path: Path) -> bool:
    loaded = sys.modules.get(stem)
    if loaded is not None:
        return not _is_file(getattr(loaded, "__file__", None), path)
    try:
        spec = importlib.util.find_spec(stem)
    except (ImportError, ValueError):
        return False
    return spec is not None and not _is_file(spec.origin, path)


def _imports_its_own_name(path: Path) -> bool:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return False  # importing it will say so, with the line
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name.partition(".")[0] == path.stem for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").partition(".")[0] == path.stem:
            return True
    return False


def _is_file(file: str | None, path: Path) -> bool:
    return bool(file) and Path(str(file)).resolve() == path


def _lies_in(module: ModuleType, folder: Path) -> bool:
    places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
    return any(Path(place).resolve().is_relative_to(folder.resolve()) for place in places if place)


def _put_first(folder: Path) -> None:
    """As for `python file.py`: what lies beside the file is found first."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _raised(path: Path, error: BaseException) -> LoadError:
    if isinstance(error, (ValueError, TypeError)) and (place := _declared_at(error.__traceback__)):
        # Our own words about a declaration: a traceback through our files would only hide them.
        return LoadError(f"{place}: {error}")
    trace = "".join(traceback.format_exception(type(error), error, _authors_part(error.__traceback__, path), chain=False))
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    hint = "It ran on this machine: the whole file is executed here, methods run on the runner."
    if isinstance(error, ModuleNotFoundError) and error.name:
        hint = f"If only the runner has {error.name!r}, import it inside the method that uses it and name its package in `requirements`; otherwise install it here."
    return LoadError(f"{path.name} cannot be imported: {said}", hint=hint, trace=trace)


def _declared_at(trace: TracebackType | None) -> str:
    """The author's file and line, if it is `roost` that refused what stands there; else empty."""
    frames = traceback.extract_tb(trace)
    ours = [Path(frame.filename).is_relative_to(_SDK) for frame in frames]
    if not ours or not ours[-1]:
        return ""
    author = frames[len(ours) - 1 - ours[::-1].index(False)]
    return f"{Path(author.filename).name}, line {author.lineno}"


def _authors_part(trace: TracebackType | None, path: Path) -> TracebackType | None:
    """The traceback from the author's file on: what lies above is ours and says nothing. For a syntax error nothing of it is theirs."""
    while trace is not None and not _is_file(trace.tb_frame.f_code.co_filename, path):
        trace = trace.tb_next
    return trace


# picking the class


def _pick(module: ModuleType, path: Path, class_name: str | None) -> type:
    import roost

    apps = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, roost.App) and value is not roost.App
    }
    if class_name is not None:
        return _named(class_name, apps, module, path)
    own = {name: value for name, value in apps.items() if value.__module__ == module.__name__ and name == value.__name__}
    candidates = list(dict.fromkeys((own or apps).values()))
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        names = [cls.__name__ for cls in candidates]
        raise LoadError(f"{path.name} has several apps: {', '.join(names)}.", hint=f"Say which one: {path.name}::{names[0]}.")
    raise LoadError(f"{path.name} has no App.", hint='Write one: `class MyApp(roost.App):` with a method marked `@roost.endpoint("/")`.')


def _named(class_name: str, apps: dict[str, type], module: ModuleType, path: Path) -> type:
    if class_name in apps:
        return apps[class_name]
    if class_name in vars(module):
        raise LoadError(f"{class_name} in {path.name} is not a subclass of roost.App.", hint=_choices(apps, path))
    near = similar(class_name, list(apps), at_least=0.6)
    raise LoadError(f"{path.name} has no class {class_name}.", hint=f"Did you mean {path.name}::{near}?" if near else _choices(apps, path))


def _choices(apps: dict[str, type], path: Path) -> str:
    return f"Its apps: {', '.join(apps)}." if apps else f"{path.name} has no App at all: write `class MyApp(roost.App):`."
