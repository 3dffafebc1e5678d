"""The nouns of the server as frozen values (ARCHITECTURE §9): what the store keeps and the decisions read.

Times are integers of milliseconds since the epoch (`*_ms` on a row) or durations (`*_ms` in a policy).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from roost.core.stages import ColdStart
from roost.wire.spec import AppSpec


class RunnerState(str, Enum):
    """Public states of a runner (spec: app-lifecycle.md §7)."""

    PENDING = "PENDING"
    SETUP = "SETUP"
    IDLE = "IDLE"
    RUNNING = "RUNNING"
    DRAINING = "DRAINING"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"


class RevisionState(str, Enum):
    """How far a revision has come; the platform API shows DEPLOYING, DEPLOYED, FAILED (spec: platform-api.md §5.1)."""

    BUILDING = "BUILDING"
    STARTING = "STARTING"
    DEPLOYED = "DEPLOYED"
    FAILED = "FAILED"


class EnvState(str, Enum):
    PENDING = "PENDING"
    BUILDING = "BUILDING"
    READY = "READY"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Scale:
    """Runtime-tunable settings of an alias, every default filled in (spec: scaling-routing.md §1)."""

    keep_alive_ms: int = 60_000
    min_concurrency: int = 0
    max_concurrency: int = 10
    concurrency_buffer: int = 0
    concurrency_buffer_perc: int = 0
    scaling_delay_ms: int = 0
    request_timeout_ms: int = 3_600_000
    request_start_timeout_ms: int | None = None
    # code-specific, may be changed at runtime until the next deploy:
    max_multiplexing: int = 1
    startup_timeout_ms: int = 600_000
    machine_types: tuple[str, ...] = ("S",)


@dataclass(frozen=True, slots=True)
class Alias:
    """A permanent (or, from `roost run`, ephemeral) name that points to exactly one revision.

    `name` carries the environment's suffix (`my-app--staging`), so that (owner, name) is what a URL says.
    """

    owner: str
    name: str
    environment: str
    revision_id: str | None
    auth: str
    scale: Scale
    ephemeral: bool
    lease_until_ms: int | None
    """Ephemeral aliases end when this passes; the open `roost run` stream renews it."""
    created_ms: int
    updated_ms: int

    @property
    def application(self) -> str:
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True, slots=True)
class DeployPlan:
    """What shall become of a revision once its environment is there; kept with it, so that a new server goes on where the old one stood."""

    strategy: str = "rolling"
    auth: str | None = None
    """Auth mode asked for with the deploy; None keeps the alias's, or takes the app's own, or the default."""
    ephemeral: bool = False
    """From `roost run`: the alias lives as long as its lease."""
    lease_ms: int = 10_000
    reset_scale: bool = False
    detached: bool = False
    """The alias moves first, runners come up afterwards, and nobody waits (GAPS A11). Of meaning with "rolling", and not for a first deploy."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One immutable version of an app."""

    id: str
    owner: str
    name: str
    environment: str
    state: RevisionState
    reason: str
    spec: AppSpec
    bundle: str
    """Key of the bundle folder."""
    working_dir: str
    runtime: str
    """Version of the author's roost; names the runtime folder that its runners use."""
    env_key: str
    openapi: dict[str, Any]
    message: str
    annotations: tuple[tuple[str, str], ...]
    created_by: str
    created_ms: int
    plan: DeployPlan = DeployPlan()


class ReleaseState(str, Enum):
    UNDER_WAY = "UNDER_WAY"
    DONE = "DONE"
    FAILED = "FAILED"


class ReleaseKind(str, Enum):
    MOVE = "move"
    """Point the alias to a revision that was made before: a rollback, or forward again."""
    RENEW = "renew"
    """Fresh runners of the revision that the alias points to."""
    TRIAL = "trial"
    """The first minutes of a revision that took the alias: what it does in them decides whether it keeps it."""


@dataclass(frozen=True, slots=True)
class Release:
    """One wish about an alias that takes a while, kept so that a server that ends in the middle is not the end of it (spec: scaling-routing.md §4)."""

    id: str
    owner: str
    name: str
    environment: str
    kind: ReleaseKind
    revision_id: str
    """The one to point to, or whose runners are renewed."""
    strategy: str
    """"rolling" or "recreate"."""
    auth: str | None
    """Auth mode asked for with it; None keeps the alias's."""
    state: ReleaseState
    reason: str
    actor: str
    begun_ms: int
    ended_ms: int | None = None
    previous: str = ""
    """Of a trial: the revision that had the alias before, and gets it back."""

    @property
    def application(self) -> str:
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an environment is made of; its hash is the environment's key (core/recipe.py)."""

    python_version: str
    layers: tuple[tuple[str, ...], ...]
    pins: tuple[str, ...]
    resolver: str = "uv"


@dataclass(frozen=True, slots=True)
class Env:
    """One built (or to be built) package environment."""

    key: str
    recipe: Recipe
    state: EnvState
    reason: str
    packages: tuple[str, ...]
    size_bytes: int
    build_ms: int
    created_ms: int
    used_ms: int


@dataclass(frozen=True, slots=True)
class Runner:
    """One runner process, from the decision to start it until it has ended."""

    id: str
    owner: str
    name: str
    revision_id: str
    state: RunnerState
    pid: int | None
    machine_type: str
    token_hash: str
    served: int
    """Calls taken so far: a runner that never took one is stopped early (spec: scaling-routing.md §1)."""
    created_ms: int
    ready_ms: int | None
    idle_since_ms: int | None
    ended_ms: int | None
    reason: str
    gpus: tuple[int, ...] = ()
    """Indexes of the node's GPUs that are its own."""
    cold_start: ColdStart | None = None
    """None: it is not ready yet, or a server that has ended since saw it start."""

    @property
    def application(self) -> str:
        return f"{self.owner}/{self.name}"


class Process(str, Enum):
    """What the supervisor says of a runner's process."""

    NOT_STARTED = "NOT_STARTED"
    """Nobody has reported a pid for it yet."""
    LIVING = "LIVING"
    GONE = "GONE"


@dataclass(frozen=True, slots=True)
class RunnerSeen:
    """One runner as the decisions see it: its row, and what only the living server knows (calls, link, process)."""

    id: str
    revision_id: str
    state: RunnerState
    since_ms: int
    """When it entered this state."""
    created_ms: int
    ready_ms: int | None = None
    idle_since_ms: int | None = None
    served: int = 0
    in_flight: int = 0
    """Calls that it holds now, reservations included."""
    process: Process = Process.LIVING
    unlinked_since_ms: int | None = None
    """Since when its control connection is closed; None while it is open, and before the runner first dialled home."""
    stopped_since_ms: int | None = None
    """Since when its process is stopped by a signal (SIGSTOP); None while it runs."""
    grace_ms: int = 5_000
    """Its revision's time between SIGTERM and SIGKILL."""
    checked: str = ""
    """What its declared health check last said, if that is all that keeps it from being ready."""


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as the server keeps it: never the secret, only its keyed hash (faults.md S-02)."""

    id: str
    owner: str
    scope: str
    """"ADMIN", "API", or "RUNNER" (a runner's own, acts as the app's owner for calls only)."""
    alias: str
    secret_hash: str
    created_ms: int
    revoked_ms: int | None
    runner_id: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the timeline: what, when, why, by whom."""

    seq: int
    at_ms: int
    subject: str
    """"app:owner/name", "runner:<id>", "revision:<id>", "env:<key>", "key:<id>"."""
    kind: str
    reason: str
    actor: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One stored decision of an engine, with how often it was made in a row."""

    seq: int
    application: str
    """"owner/name"."""
    kind: str
    """"scaling"."""
    runners: int
    reason: str
    memory: dict[str, Any]
    """What the next decision begins with."""
    first_ms: int
    last_ms: int
    times: int
