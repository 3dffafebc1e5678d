"""The body of a deploy or run: the spec and the content-addressed pieces that the server must hold to start a runner."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from roost.wire.spec import AppSpec


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of `app_files`: where it lies below the bundle's files folder, its content hash and permission bits."""

    path: str
    sha256: str
    mode: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one revision consists of. The pickle is opaque to the server, which never opens it."""

    spec: AppSpec
    pickle_sha256: str
    runtime_version: str
    openapi: dict[str, Any]
    files: tuple[BundleFile, ...] = ()
    working_dir: str = ""
    """Folder below the bundle's files folder that the runner starts in and puts on sys.path."""
    message: str = ""
    annotations: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Manifest:
        return cls(
            spec=AppSpec.from_json(value["spec"]),
            pickle_sha256=value["pickle_sha256"],
            runtime_version=value["runtime_version"],
            openapi=value["openapi"],
            files=tuple(BundleFile(**item) for item in value.get("files", ())),
            working_dir=value.get("working_dir", ""),
            message=value.get("message", ""),
            annotations=tuple((str(k), str(v)) for k, v in value.get("annotations", ())),
        )

    def blobs(self) -> list[str]:
        """The hashes of everything that must be uploaded, each once."""
        return list(dict.fromkeys([self.pickle_sha256, *(f.sha256 for f in self.files)]))
