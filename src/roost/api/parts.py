"""What the control plane needs of the rest of the server, given by the wiring."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from roost.core.explain import Held
from roost.core.health import Last
from roost.core.model import Recipe, Scale
from roost.core.placement import USUAL, MachineType, Node, Overcommit, Unplaced
from roost.core.whatif import Lived
from roost.data.blobs import Blobs
from roost.data.logs import RunnerLogs
from roost.data.payloads import Payloads
from roost.data.signing import Signer
from roost.demand.board import Board
from roost.demand.queue import Queue
from roost.kit.clock import Clock
from roost.kit.gpus import NO_GPUS, Inventory
from roost.kit.hints import Hints
from roost.kit.spawn import Enforcement
from roost.link.directory import Directory
from roost.store import Store
from roost.web.answers import Scope
from roost.web.auth import KeyRing
from roost.wire.manifest import Manifest
from roost.wire.spec import AppSpec

Simulate = Callable[[str, int, int, list[Lived], list[Scale]], Awaitable[dict[str, Any]]]
"""(application, since_ms, until_ms, its runners, the settings to replay with) -> what `server.replay` answers. Raises RoostError."""


class Pruned(Protocol):
    @property
    def removed(self) -> tuple[str, ...]: ...
    @property
    def freed_bytes(self) -> int: ...


class Builds(Protocol):
    """What the API needs of whoever builds environments."""

    def log_path(self, key: str) -> Path:
        """The file with the output of the last build of this environment; it need not be there."""
        ...

    async def prune(self, all: bool) -> Pruned:
        """Remove the environments that nothing needs; with `all` also those that a next app would want."""
        ...


class Certificates(Protocol):
    """What the API tells of the server's TLS."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names that it speaks for."""
        ...

    @property
    def until_ms(self) -> int:
        """When the certificate ends that ends first."""
        ...

    @property
    def own(self) -> bool:
        """Of the local authority, which renews it by itself; else the operator's."""
        ...

    @property
    def ca(self) -> str | None:
        """The local authority's certificate in PEM; None when there is none."""
        ...

    @property
    def bundle(self) -> Path | None:
        """Everything that programs on this machine need to trust; None when what they trust already is enough."""
        ...

    @property
    def problem(self) -> str:
        """Why it is not what it should be; "" if it is."""
        ...


@dataclass(frozen=True, slots=True)
class Reached:
    """Where this server is reached. "" is "there is none"."""

    http: str
    public: str
    https: str = ""
    connect: str = ""
    """host:port of the CONNECT door."""
    tls: Certificates | None = None


@dataclass(frozen=True, slots=True)
class About:
    """This server, as values."""

    version: str
    instance: str
    """Another one for each server process: how a client sees that a restart is done."""
    started_ms: int
    state: Path
    node: Node
    machine_types: Mapping[str, MachineType]
    pythons: tuple[str, ...]
    """Versions of Python that environments can be built for without a download, "3.11"."""
    defaults: Scale
    """Of apps that do not say."""
    overcommit: Overcommit = USUAL
    webhook_ms: int = 3_600_000
    """How long a webhook that is sent again is tried."""
    webhook_ip_ranges: tuple[str, ...] = ()
    """Networks that webhooks come from, as the operator says."""
    gpus: Inventory = NO_GPUS
    free_memory_floor_mb: int = 0
    poll_s: float = 0.1
    """How often an open stream looks for what is new when nobody hints."""


@dataclass(frozen=True, slots=True)
class ApiParts:
    """The neighbours of the API."""

    store: Store
    clock: Clock
    hints: Hints
    keys: KeyRing
    reload_keys: Callable[[], Awaitable[None]]
    """Read the keys into the ring again; awaited after a key was made or revoked, so that the answer is already true."""
    hash_secret: Callable[[str], str]
    directory: Directory
    board: Board
    queue: Queue
    payloads: Payloads
    signer: Signer
    logs: RunnerLogs
    blobs: Blobs
    builds: Builds
    kill_runner: Callable[[str], Awaitable[None]]
    """SIGKILL to the runner of this id."""
    health: Callable[[str], Last | None]
    """What a runner last said of its health; None if this server did not ask it."""
    assemble: Callable[[Manifest], str]
    """Make the bundle's folder and answer its key. Blocks: called in a thread."""
    recipe_of: Callable[[AppSpec], tuple[Recipe, str]]
    has_runtime: Callable[[str], bool]
    """Whether runners of this version of roost can be started here."""
    simulate: Simulate
    restart: Callable[[], Awaitable[None]]
    """Ask for a planned restart; answers when it has begun."""
    base_url: Callable[[Scope], str]
    """The address that this caller dialled, `http://host:port`, without a slash at the end."""
    reached: Reached
    closing: asyncio.Event
    """Set when this server hands over to a new one: open streams say so and end."""
    about: About
    enforcement: Callable[[], Awaitable[Enforcement]]
    """How limits of machine types are kept. Raises OSError when nobody can say."""
    unplaced: Callable[[], Mapping[str, Unplaced]] = dict
    """The apps that want a runner for which there is no room."""
    available_mb: Callable[[], int | None] = lambda: None
    """What the machine has left; None: nobody knows."""
    held: Callable[[str, str | None], Held] = lambda application, revision_id: Held()
    """(application, revision): what keeps further runners of it from starting."""
