"""From the body of a deploy or run to a revision: everything that can be refused is refused here, before anything is built.

Nothing of the author's is opened: the pickle stays a blob.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pydantic

from roost.api.parts import ApiParts
from roost.api.scale import check
from roost.core.model import DeployPlan, Revision, RevisionState
from roost.core.placement import Fit, Unknown, could_ever_fit, resolve
from roost.core.policy import scale_of
from roost.core.recipe import conflicts
from roost.web.roles import reserved_owner
from roost.wire import ids
from roost.wire.errors import RoostError
from roost.wire.manifest import Manifest
from roost.wire.spec import AppSpec

AUTH_MODES: Final = ("private", "public", "shared")
STRATEGIES: Final = ("rolling", "recreate")
KINDS: Final = ("virtualenv",)
MAIN: Final = "main"
"""The deployment environment of everything, for now."""

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_MANIFEST: Final = pydantic.TypeAdapter(Manifest)


@dataclass(frozen=True, slots=True)
class Order:
    """What an author asks for."""

    owner: str
    actor: str
    name: str
    manifest: Manifest
    plan: DeployPlan


def manifest_in(body: Mapping[str, Any]) -> Manifest:
    """The manifest in a request's body. Raises `unprocessable` naming the first part that cannot be read."""
    try:
        return _MANIFEST.validate_python(body.get("manifest"))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(["manifest", *(str(part) for part in first["loc"])])
        raise RoostError(
            "unprocessable", f"the manifest cannot be read: {where}: {first['msg']}", hint="Deploy with a roost of the server's version."
        ) from error


def choice_in(body: Mapping[str, Any], name: str, choices: tuple[str, ...], default: str | None) -> str | None:
    """One of a few words; absent or null is the default. Raises `unprocessable`."""
    value = body.get(name)
    if value is None:
        return default
    if value not in choices:
        raise RoostError("unprocessable", f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return value


def flag_in(body: Mapping[str, Any], name: str) -> bool:
    """A yes or no; absent or null is no. Raises `unprocessable`."""
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise RoostError("unprocessable", f"{name} must be true or false, not {str(value)[:40]!r}")
    return bool(value)


class Intake:
    def __init__(self, parts: ApiParts) -> None:
        self._store = parts.store
        self._clock = parts.clock
        self._blobs = parts.blobs
        self._assemble = parts.assemble
        self._recipe_of = parts.recipe_of
        self._has_runtime = parts.has_runtime
        self._about = parts.about

    async def take(self, order: Order) -> Revision:
        """The revision that this order means, its bundle on disk; not stored yet. Raises RoostError with what the author can do."""
        self._check(order)
        await self._check_name(order)
        await self._check_blobs(order.manifest)
        bundle = await asyncio.to_thread(self._assemble, order.manifest)
        manifest = order.manifest
        _, env_key = self._recipe_of(manifest.spec)
        return Revision(
            id=ids.revision_id(),
            owner=order.owner,
            name=order.name,
            environment=MAIN,
            state=RevisionState.BUILDING,
            reason="",
            spec=manifest.spec,
            bundle=bundle,
            working_dir=manifest.working_dir,
            runtime=manifest.runtime_version,
            env_key=env_key,
            openapi=manifest.openapi,
            message=manifest.message,
            annotations=manifest.annotations,
            created_by=order.actor,
            created_ms=self._clock.now_ms(),
            plan=order.plan,
        )

    def _check(self, order: Order) -> None:
        spec = order.manifest.spec
        if reserved_owner(order.owner):
            raise RoostError("conflict", f"the account name {order.owner!r} is reserved: the server itself answers under /{order.owner}")
        if not _NAME.fullmatch(spec.name) or "--" in spec.name:
            raise RoostError(
                "unprocessable",
                f"{spec.name[:80]!r} cannot be an app's name: it is part of the URL",
                hint="Use at most 63 letters, digits and single '-', '_' or '.', beginning and ending with a letter or digit.",
            )
        if spec.kind not in KINDS:
            raise RoostError(
                "unprocessable", f"this server cannot make environments of the kind {spec.kind!r}", hint=f"It makes: {', '.join(KINDS)}."
            )
        if not self._has_runtime(order.manifest.runtime_version):
            raise RoostError(
                "version_mismatch",
                f"the app was made with roost {order.manifest.runtime_version}, which this server cannot run",
                hint=f"Install roost {self._about.version}, the server's version, where you deploy from, and deploy again.",
            )
        check(scale_of(spec, self._about.defaults, None))
        self._check_machine(spec)
        if conflict := conflicts(spec.requirements, spec.pins):
            raise RoostError("build_failed", conflict.detail, hint=conflict.hint)

    def _check_machine(self, spec: AppSpec) -> None:
        about = self._about
        types = resolve(spec.machine_types or about.defaults.machine_types, about.machine_types)
        if isinstance(types, Unknown):
            raise RoostError("unprocessable", types.detail, hint=types.hint)
        verdict = could_ever_fit(types, spec.num_gpus, about.node, about.overcommit)
        if isinstance(verdict, Fit):
            return
        fitting = [
            name
            for name, kind in about.machine_types.items()
            if isinstance(could_ever_fit((kind,), None, about.node, about.overcommit), Fit)
        ]
        hint = f"Choose another one with --machine-type. This server can run: {', '.join(fitting) or 'none of its types'}."
        raise RoostError("unsatisfiable", f"no runner of this app could ever be placed here: {verdict.reason}", hint=hint)

    async def _check_name(self, order: Order) -> None:
        alias = await self._store.apps.get(order.owner, order.name)
        if alias is not None and alias.ephemeral != order.plan.ephemeral:
            kind = "a running `roost run`" if alias.ephemeral else "a deployed app"
            raise RoostError("conflict", f"{alias.application} is the name of {kind}", hint="Choose another name with --app-name.")

    async def _check_blobs(self, manifest: Manifest) -> None:
        missing = await self._blobs.missing(manifest.blobs())
        if missing:
            raise RoostError(
                "conflict",
                f"{len(missing)} pieces of the app are not on the server, the first is {missing[0]}",
                hint="Upload what POST /v1/blobs/missing names, then try again.",
            )


def same_content(one: Revision, other: Revision) -> bool:
    """Whether two revisions would behave the same: an author who comes back asks for what there already is."""
    return dataclasses.replace(one, id=other.id, state=other.state, reason=other.reason, created_ms=other.created_ms) == other
