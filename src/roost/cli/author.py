"""The author's side of `run` and `deploy`: load the file, apply the flags, bundle it. Every mistake of an author ends here, before any upload."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from roost.cli.output import size
from roost.cli.screen import Screen, UploadBar
from roost.control.api import Api
from roost.control.deploy import upload

if TYPE_CHECKING:
    from roost.control.bundle import Bundle
    from roost.control.load import LoadedApp
    from roost.wire.manifest import Manifest


@dataclass(frozen=True)
class Changes:
    """What flags change about what the class declares."""

    app_name: str = ""
    machine_type: str = ""
    no_cache: bool = False
    message: str = ""
    annotations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Package:
    """A loaded and bundled app, with the flags applied."""

    loaded: LoadedApp
    bundle: Bundle
    manifest: Manifest

    @property
    def declared_auth(self) -> str | None:
        """What the class or pyproject.toml says about who may call it."""
        return self.loaded.auth or self.manifest.spec.auth

    def session(self, key_id: str) -> str:
        """The same for the same class of the same file, person and key, so that running again keeps the address."""
        who = f"{os.getuid()}@{socket.gethostname()}"
        parts = (str(self.loaded.path), self.manifest.spec.class_name, who, key_id)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def load(reference: str | None) -> LoadedApp:
    """The app that `reference` means, seen from the current folder."""
    from roost.control import load as loading

    return loading.resolve(reference, Path.cwd())


def package(loaded: LoadedApp, changes: Changes) -> Package:
    from roost.control import bundle as bundling

    bundle = bundling.build(loaded)
    named = dataclasses.replace(changes, app_name=changes.app_name or loaded.name or "")
    return Package(loaded, bundle, changed(bundle.manifest, named))


def changed(manifest: Manifest, changes: Changes) -> Manifest:
    """The manifest with the flags applied; a flag that was not given changes nothing."""
    spec = manifest.spec
    spec = dataclasses.replace(
        spec,
        name=changes.app_name or spec.name,
        machine_types=(changes.machine_type,) if changes.machine_type else spec.machine_types,
        force=spec.force or changes.no_cache,
    )
    return dataclasses.replace(
        manifest, spec=spec, message=changes.message or manifest.message, annotations=changes.annotations or manifest.annotations
    )


def send(api: Api, app: Package, screen: Screen) -> None:
    """Upload what the server lacks, with a bar."""
    with UploadBar() as bar:
        sent = upload(api, app.manifest, app.bundle.blobs, bar)
    if sent.pieces:
        screen.done(f"Uploaded {size(sent.size)}")
