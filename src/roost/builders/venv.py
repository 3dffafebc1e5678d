"""Virtual environments made with `uv`: a recipe's layers in order, each held to what the earlier ones installed.

envs/<key>/                    ready: complete, flushed, never changed again; `roost-env.json` says what is in it
envs/.building-<key>-<n>/      one build: venv/ (renamed to envs/<key> at its end), layer-1.txt, what uv printed
builds/<key>.log               what uv printed during the last build, without credentials
uv-cache/                      beside envs/: hard links need one file system, and an empty HOME has no cache
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import importlib.metadata
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roost.builders import folders
from roost.builders.advice import Step, check_version, explain, is_unreachable
from roost.builders.base import BuildError, BuildInterrupted, BuildSettings, Built, OnLine
from roost.builders.commands import Commands, Ended
from roost.builders.joined import Joined, Stopped
from roost.builders.redact import redact, secrets_in
from roost.builders.surroundings import uv_environ
from roost.core.model import Recipe
from roost.kit.spawn import Spawner

_BUILDING: Final = ".building-"
_ABOUT: Final = "roost-env.json"
# Requirements files of pip may say this; uv takes it on the command line only.
_PRERELEASES: Final = "--pre"


class VenvBuilder:
    """A `builders.base.Builder` for virtual environments; `environ` is the server's own (uv's variables are taken from it)."""

    def __init__(
        self, spawner: Spawner, envs: Path, builds: Path, settings: BuildSettings, environ: Mapping[str, str] | None = None
    ) -> None:
        self._envs = envs
        self._builds = builds
        self._settings = settings
        self._commands = Commands(spawner)
        self._jobs: dict[str, Joined[Built]] = {}
        self._numbers = itertools.count(1)
        self._uv_environ = uv_environ(os.environ if environ is None else environ, settings, envs.parent / "uv-cache", envs.parent)
        self._secrets = secrets_in(self._uv_environ)
        for folder in (envs, builds):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, key: str) -> Path:
        return self._envs / key

    def exists(self, key: str) -> bool:
        return self.path(key).is_dir()

    async def build(self, key: str, recipe: Recipe, on_line: OnLine, *, force: bool = False) -> Built:
        while (job := self._jobs.get(key)) is not None and job.abandoned:
            await job.ended()
        if job is None:
            if not force and (ready := _read_about(self.path(key))) is not None:
                return ready
            job = self._jobs[key] = Joined(functools.partial(self._make, key, recipe), f"build {key}")
            job.then(lambda: self._forget(key))
        try:
            return await job.join(on_line)
        except Stopped:
            raise BuildInterrupted("the server stopped while the environment was built", "Deploy again.") from None

    def keys(self) -> frozenset[str]:
        return frozenset(folder.name for folder in self._envs.iterdir() if not folder.name.startswith("."))

    async def remove(self, key: str) -> int:
        return await asyncio.to_thread(folders.remove, self.path(key))

    async def trim(self) -> int:
        cache = Path(self._uv_environ["UV_CACHE_DIR"])
        freed = await asyncio.to_thread(folders.size, cache, only_ours=True)
        with _scratch(self._envs, "trim") as scratch:
            # uv knows which of it another process uses at the moment; removing the folder ourselves would break that build.
            ended = await self._uv("trim", ("cache", "clean"), scratch, lambda _: None)
        if not ended.ok:
            raise BuildError("the downloads could not be removed: " + "\n".join(ended.lines), f"The folder is {cache}.")
        return freed

    async def sweep(self) -> None:
        def clear() -> None:
            for prefix in (_BUILDING, folders.REMOVING):
                for left in self._envs.glob(f"{prefix}*"):
                    shutil.rmtree(left, ignore_errors=True)

        await asyncio.to_thread(clear)

    async def stop(self) -> None:
        await asyncio.gather(*(job.stop() for job in list(self._jobs.values())))

    def log(self, key: str) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self._builds / f"{key}.log").read_text(errors="replace")
        return ""

    def _forget(self, key: str) -> None:
        del self._jobs[key]

    # One build

    async def _make(self, key: str, recipe: Recipe, say: OnLine) -> Built:
        began = time.monotonic()
        with _scratch(self._envs, key) as scratch, _log_file(self._builds / f"{key}.log") as log:

            def tell(line: str) -> None:
                clean = redact(line.replace(f"{scratch}{os.sep}", ""), self._secrets)
                log(clean)
                say(clean)

            limit_s = self._settings.time_limit_ms / 1000
            try:
                await asyncio.wait_for(self._install(_Build(key, recipe, scratch, tell)), limit_s)
                built = await asyncio.to_thread(_describe, scratch / "venv", recipe, began)
                await asyncio.to_thread(folders.publish, scratch / "venv", self.path(key), replace=True)
            except BuildError as error:
                log(error.detail)
                raise
            except asyncio.TimeoutError:
                raise BuildError(
                    f"the environment was not ready after {limit_s:.0f} seconds",
                    "Ask for fewer packages or ones with ready-made wheels; the limit is build_time_limit_s in the server's server.toml.",
                ) from None
            except OSError as error:
                raise BuildError(f"the environment could not be built: {error}", "The server's disk may be full or read-only.") from error
            tell(f"Environment ready: {len(built.packages)} packages, {built.size_bytes / 1e6:.1f} MB, {built.build_ms / 1000:.1f} s")
            return built

    async def _install(self, build: _Build) -> None:
        recipe = build.recipe
        check_version(recipe.python_version)
        build.tell(f"Creating an environment for Python {recipe.python_version}")
        python = _own_interpreter(recipe.python_version) or recipe.python_version
        argv = ("venv", "--quiet", "--relocatable", "--no-project", "--python", python, str(build.venv))
        await self._step(build, Step(f"Python {recipe.python_version} is not usable on the server"), argv)
        layers = [layer for layer in (*recipe.layers, recipe.pins) if layer]
        for number, layer in enumerate(layers, start=1):
            build.tell(f"Installing {redact(', '.join(layer), self._secrets)}")
            await self._install_layer(build, number, layer)

    async def _install_layer(self, build: _Build, number: int, layer: tuple[str, ...]) -> None:
        requirements = build.scratch / f"layer-{number}.txt"
        constraints = build.scratch / f"earlier-{number}.txt"
        _write(requirements, (item for item in layer if item != _PRERELEASES))
        _write(constraints, dict.fromkeys([*_constraints(build.recipe.pins), *installed(build.venv)]))
        argv = [
            "pip",
            "install",
            "--python",
            str(build.venv / "bin" / "python"),
            "--compile-bytecode",
            "-r",
            str(requirements),
            "-c",
            str(constraints),
        ]
        if _PRERELEASES in layer:
            argv += ["--prerelease", "allow"]
        if build.recipe.resolver == "pip":
            # As pip does: the best version that any of the indexes has, not the first index that has the package.
            argv += ["--index-strategy", "unsafe-best-match"]
        doing = (
            "the requirements cannot be installed"
            if layer != build.recipe.pins
            else "the packages that every runner needs cannot be installed"
        )
        await self._step(build, Step(doing, layer), tuple(argv))

    async def _step(self, build: _Build, step: Step, argv: tuple[str, ...]) -> None:
        """Run uv; when the network is away, once more with what has been downloaded before. Raises BuildError."""
        name = f"build-{build.key}-{next(self._numbers)}"
        offline = ("--offline",) if build.offline else ()
        ended = await self._uv(name, (*argv, *offline), build.scratch, build.tell)
        if not ended.ok and not build.offline and is_unreachable(ended.lines):
            build.tell("The package index cannot be reached; trying with what has been downloaded before (uv --offline).")
            again = await self._uv(f"{name}-offline", (*argv, "--offline"), build.scratch, build.tell)
            # Its words would be "not found in the cache"; the author needs to hear of the network.
            ended = again if again.ok or again.exited.code is None else ended
            build.offline = again.ok
        if not ended.ok:
            lines = [redact(line.replace(f"{build.scratch}{os.sep}", ""), self._secrets) for line in ended.lines]
            raise explain(step, ended.exited, lines, build.recipe, self._settings)

    async def _uv(self, name: str, argv: tuple[str, ...], scratch: Path, on_line: OnLine) -> Ended:
        output = scratch / f"{name}.out"
        return await self._commands.run(name, (_uv_binary(), *argv), self._uv_environ, output, on_line)


@dataclass(slots=True)
class _Build:
    """One build while it runs."""

    key: str
    recipe: Recipe
    scratch: Path
    tell: OnLine
    offline: bool = False
    """The network was away once: further steps do not wait for it again."""

    @property
    def venv(self) -> Path:
        return self.scratch / "venv"


def installed(venv: Path) -> tuple[str, ...]:
    """What is installed there as "name==version", sorted, from the packages' own metadata; nothing of it is run."""
    found = importlib.metadata.distributions(path=[str(folder) for folder in venv.glob("lib/python*/site-packages")])
    return tuple(sorted({f"{each.metadata['Name']}=={each.version}" for each in found}, key=str.lower))


@functools.cache
def _uv_binary() -> str:
    # Imported late: without the `server` extra there is no uv, and this module can still be imported.
    import uv

    return uv.find_uv_bin()


def _own_interpreter(version: str) -> str | None:
    """The interpreter under the server's own, if it is of this version: it is there and works, wherever PATH points."""
    own = Path(sys.base_prefix, "bin", f"python{version}")
    is_own = version == f"{sys.version_info.major}.{sys.version_info.minor}"
    return str(own) if is_own and own.exists() else None


def _constraints(pins: Sequence[str]) -> Iterator[str]:
    """The pins that may stand in a constraints file: extras and addresses may not."""
    return (pin for pin in pins if "[" not in pin and "@" not in pin)


def _describe(venv: Path, recipe: Recipe, began: float) -> Built:
    """What was built, also written into it, so that an environment can be told without a database."""
    built = Built(installed(venv), folders.size(venv), int((time.monotonic() - began) * 1000))
    (venv / _ABOUT).write_text(
        json.dumps({"built": dataclasses.asdict(built), "recipe": dataclasses.asdict(_without_secrets(recipe))}, indent=1)
    )
    return built


def _without_secrets(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, layers=tuple(tuple(redact(item) for item in layer) for layer in recipe.layers))


def _read_about(venv: Path) -> Built | None:
    try:
        built = json.loads((venv / _ABOUT).read_text())["built"]
    except FileNotFoundError:
        return None
    return Built(tuple(built["packages"]), built["size_bytes"], built["build_ms"])


def _write(path: Path, lines: Iterator[str] | Mapping[str, object]) -> None:
    # 0600: an index address in the requirements may carry a password.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(f"{line}\n" for line in lines)


@contextlib.contextmanager
def _scratch(envs: Path, key: str) -> Iterator[Path]:
    """A folder for one build that is gone afterwards, however it ended."""
    folder = Path(tempfile.mkdtemp(prefix=f"{_BUILDING}{key}-", dir=envs))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _log_file(path: Path) -> Iterator[OnLine]:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", buffering=1) as file:
        yield lambda line: print(line, file=file)
