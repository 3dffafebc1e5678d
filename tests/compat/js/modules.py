"""The official JavaScript client as npm has it: installed once and kept in `.compat/`, with all its versions pinned (`pinned/`)."""

from __future__ import annotations

import functools
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.compat.environments import KEPT, LATEST, installed, kept, note_latest

PINNED = Path(__file__).parent / "pinned"
_NPM = ("npm", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")


def need_node() -> None:
    """Fails or skips where Node is missing."""
    if shutil.which("node") and shutil.which("npm"):
        return
    message = "needs Node (18.18 or newer) and npm: apt-get install nodejs npm"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@functools.cache
def modules() -> Path:
    """The folder `node_modules`, with `fal-newest`, `fal-older` (COMPAT=latest: only the first, as npm has it now) and `undici`."""
    need_node()
    if LATEST:
        return _latest()

    def make(folder: Path) -> None:
        for file in PINNED.iterdir():
            shutil.copy(file, folder)
        installed([*_NPM, "ci", "--prefer-offline", "--prefix", str(folder)], dict(os.environ), "@fal-ai/client")

    return kept("fal-js", (PINNED / "package-lock.json").read_text(), make) / "node_modules"


def _latest() -> Path:
    for old in KEPT.glob("fal-js-latest-*"):
        shutil.rmtree(old)
    packages = ["fal-newest@npm:@fal-ai/client@latest", f"undici@{_pin('undici')}"]

    def make(folder: Path) -> None:
        (folder / "package.json").write_text('{"private": true}')
        installed([*_NPM, "install", "--prefix", str(folder), *packages], dict(os.environ), "@fal-ai/client")

    folder = kept("fal-js-latest", "", make) / "node_modules"
    note_latest(f"@fal-ai/client {json.loads((folder / 'fal-newest' / 'package.json').read_text())['version']}")
    return folder


def _pin(name: str) -> str:
    return str(json.loads((PINNED / "package.json").read_text())["dependencies"][name])
