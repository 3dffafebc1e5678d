"""Lives: which state may follow which, as tables. A change of state that is not a row here is a bug, and raises.

The store writes each change with a guard (`WHERE state IN sources(table, event)`); zero rows mean that somebody else decided
first. `document()` draws the tables as docs/internals/lifecycles.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, TypeVar

from roost.core.model import EnvState, ReleaseState, RevisionState, RunnerState
from roost.core.requests import AttemptState, RequestState
from roost.core.webhooks import WebhookState

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


class IllegalEvent(Exception):
    """This state has no row for this event: the code that raised it believes something that is not so."""

    def __init__(self, life: str, state: Enum, event: Enum, allowed: tuple[str, ...]) -> None:
        self.life, self.state, self.event, self.allowed = life, state, event, allowed
        possible = f"it takes {', '.join(allowed)}" if allowed else "nothing follows it"
        super().__init__(f"a {life} in state {state.value} cannot take the event {event.value}; {possible}")


@dataclass(frozen=True)
class Table(Generic[S, E]):
    """One life: where it begins and every `(state, event) -> state` that may happen."""

    life: str
    begins: S
    rows: Mapping[tuple[S, E], S]
    story: str

    def events(self, state: S) -> tuple[E, ...]:
        return tuple(event for source, event in self.rows if source == state)


def advance(table: Table[S, E], state: S, event: E) -> S:
    """The state that follows. Raises IllegalEvent naming the state, the event and what would have been allowed."""
    if (state, event) not in table.rows:
        raise IllegalEvent(table.life, state, event, tuple(e.value for e in table.events(state)))
    return table.rows[state, event]


def allows(table: Table[S, E], state: S, event: E) -> bool:
    return (state, event) in table.rows


def sources(table: Table[S, E], event: E) -> tuple[S, ...]:
    """The states in which this event may happen: the `state IN (...)` of the store's guard."""
    return tuple(source for source, known in table.rows if known == event)


def is_final(table: Table[S, E], state: S) -> bool:
    return not table.events(state)


# --- runner ------------------------------------------------------------------------------------------------------------


class RunnerEvent(str, Enum):
    SETUP_BEGAN = "setup began"
    READY = "ready"
    CALLED = "first call taken"
    RESTED = "last call ended"
    DRAIN = "drain"
    STOP = "stop"
    KILL = "kill"
    ENDED = "process ended"
    LOST = "declared lost"


def _runner_rows() -> dict[tuple[RunnerState, RunnerEvent], RunnerState]:
    state, event = RunnerState, RunnerEvent
    rows = {
        (state.PENDING, event.SETUP_BEGAN): state.SETUP,
        # A server that was down while setup() ran hears "ready" first, when the runner dials home again.
        (state.PENDING, event.READY): state.IDLE,
        (state.SETUP, event.READY): state.IDLE,
        (state.IDLE, event.CALLED): state.RUNNING,
        (state.RUNNING, event.RESTED): state.IDLE,
    }
    # Also from IDLE: another gateway may have reserved a slot that this one has not heard of. Before READY by an operator's word.
    for serving in (state.PENDING, state.SETUP, state.IDLE, state.RUNNING):
        rows[serving, event.DRAIN] = state.DRAINING
    for alive in (state.PENDING, state.SETUP, state.IDLE, state.RUNNING, state.DRAINING):
        rows[alive, event.STOP] = state.TERMINATING
    for alive in (state.PENDING, state.SETUP, state.IDLE, state.RUNNING, state.DRAINING, state.TERMINATING):
        rows[alive, event.KILL] = state.TERMINATING
        rows[alive, event.ENDED] = state.TERMINATED
        rows[alive, event.LOST] = state.TERMINATED
    return rows


RUNNER: Final = Table(
    "runner",
    RunnerState.PENDING,
    _runner_rows(),
    "PENDING until its process has loaded the class, SETUP while `setup()` runs and until a declared health check has answered well, IDLE and RUNNING "
    "while it takes calls. Draining takes no new calls and finishes those it has; terminating means that SIGTERM was sent (or SIGKILL, for `kill`). A process may end, or be lost, at any time.",
)


# --- revision ----------------------------------------------------------------------------------------------------------


class RevisionEvent(str, Enum):
    BUILT = "environment ready"
    SWITCHED = "alias switched"
    FAIL = "fail"


REVISION: Final = Table(
    "revision",
    RevisionState.BUILDING,
    {
        (RevisionState.BUILDING, RevisionEvent.BUILT): RevisionState.STARTING,
        (RevisionState.BUILDING, RevisionEvent.FAIL): RevisionState.FAILED,
        (RevisionState.STARTING, RevisionEvent.SWITCHED): RevisionState.DEPLOYED,
        (RevisionState.STARTING, RevisionEvent.FAIL): RevisionState.FAILED,
        # A rollback: the alias comes back to it.
        (RevisionState.DEPLOYED, RevisionEvent.SWITCHED): RevisionState.DEPLOYED,
    },
    "A revision is DEPLOYED once the alias has pointed to it, and stays so when a later one takes the alias: it can be rolled back to. "
    "FAILED is final; a new attempt is a new revision.",
)


# --- release -----------------------------------------------------------------------------------------------------------


class ReleaseEvent(str, Enum):
    DONE = "carried out"
    FAIL = "given up"


RELEASE: Final = Table(
    "release",
    ReleaseState.UNDER_WAY,
    {
        (ReleaseState.UNDER_WAY, ReleaseEvent.DONE): ReleaseState.DONE,
        (ReleaseState.UNDER_WAY, ReleaseEvent.FAIL): ReleaseState.FAILED,
    },
    "A wish about an alias that exists: to point it to an older revision, or to renew its runners. What is there says how far it has come, so a "
    "server that ends in the middle leaves nothing to repair. FAILED leaves the alias and its runners as they were.",
)


# --- package environment -----------------------------------------------------------------------------------------------


class EnvEvent(str, Enum):
    BUILD_BEGAN = "build began"
    BUILT = "built"
    BUILD_FAILED = "build failed"
    INTERRUPTED = "build interrupted"
    ASKED_AGAIN = "asked for again"
    MISSING = "folder missing"


ENV: Final = Table(
    "package environment",
    EnvState.PENDING,
    {
        (EnvState.PENDING, EnvEvent.BUILD_BEGAN): EnvState.BUILDING,
        (EnvState.BUILDING, EnvEvent.BUILT): EnvState.READY,
        (EnvState.BUILDING, EnvEvent.BUILD_FAILED): EnvState.FAILED,
        # The server or the build was killed: nobody learned anything about the recipe, so it is tried again.
        (EnvState.BUILDING, EnvEvent.INTERRUPTED): EnvState.PENDING,
        (EnvState.FAILED, EnvEvent.ASKED_AGAIN): EnvState.PENDING,
        # `force` builds a ready one anew.
        (EnvState.READY, EnvEvent.ASKED_AGAIN): EnvState.PENDING,
        (EnvState.READY, EnvEvent.MISSING): EnvState.PENDING,
    },
    "Built once a key, whoever asks. A failed build is tried again when somebody asks again, since an index may have changed; an interrupted one at once.",
)


# --- queued request ----------------------------------------------------------------------------------------------------


class RequestEvent(str, Enum):
    CLAIMED = "claimed for a runner"
    ANSWERED = "result taken"
    FAILED = "failed for good"
    TRY_AGAIN = "to be tried again"
    CANCELLED = "cancelled while waiting"
    EXPIRED = "start deadline passed"


REQUEST: Final = Table(
    "request",
    RequestState.IN_QUEUE,
    {
        (RequestState.IN_QUEUE, RequestEvent.CLAIMED): RequestState.IN_PROGRESS,
        (RequestState.IN_PROGRESS, RequestEvent.ANSWERED): RequestState.COMPLETED,
        (RequestState.IN_PROGRESS, RequestEvent.FAILED): RequestState.COMPLETED,
        (RequestState.IN_PROGRESS, RequestEvent.TRY_AGAIN): RequestState.IN_QUEUE,
        (RequestState.IN_QUEUE, RequestEvent.CANCELLED): RequestState.COMPLETED,
        (RequestState.IN_QUEUE, RequestEvent.EXPIRED): RequestState.COMPLETED,
    },
    "A request is durable before its submit is answered. COMPLETED is final and carries the app's response or an error; trying again is a new "
    "request with `retry_of`. Everything that happens while it is IN_PROGRESS is guarded by the number of its attempt.",
)


class AttemptEvent(str, Enum):
    ANSWERED = "response taken as the result"
    FAILED = "failed"
    LOST = "runner gone or lease over"


ATTEMPT: Final = Table(
    "attempt",
    AttemptState.RUNNING,
    {
        (AttemptState.RUNNING, AttemptEvent.ANSWERED): AttemptState.ANSWERED,
        (AttemptState.RUNNING, AttemptEvent.FAILED): AttemptState.FAILED,
        (AttemptState.RUNNING, AttemptEvent.LOST): AttemptState.LOST,
    },
    "One try of a request on one runner, durable before its first byte is sent. Numbers grow and are never used twice; what an older attempt "
    "says after its request went on changes nothing.",
)


# --- webhook -----------------------------------------------------------------------------------------------------------


class WebhookEvent(str, Enum):
    DELIVERED = "answered with a 2xx"
    TRY_AGAIN = "to be tried again"
    GIVEN_UP = "given up"
    RESEND = "sent again by hand"


WEBHOOK: Final = Table(
    "webhook",
    WebhookState.PENDING,
    {
        (WebhookState.PENDING, WebhookEvent.DELIVERED): WebhookState.DELIVERED,
        (WebhookState.PENDING, WebhookEvent.TRY_AGAIN): WebhookState.PENDING,
        (WebhookState.PENDING, WebhookEvent.GIVEN_UP): WebhookState.FAILED,
        (WebhookState.DELIVERED, WebhookEvent.RESEND): WebhookState.PENDING,
        (WebhookState.FAILED, WebhookEvent.RESEND): WebhookState.PENDING,
    },
    "The notice of a request's end, made in the transaction that ends it. What becomes of a try is guarded by how many there have been, so that of two "
    "servers that tried the same, as at a planned restart, one writes it down. Nothing is final: whoever lost a notice has it sent again.",
)


# --- the page ----------------------------------------------------------------------------------------------------------


def render(table: Table[S, E]) -> str:
    """The table as a mermaid state diagram. Events that lead from one state to the same other one share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (source, event), target in table.rows.items():
        arrows.setdefault((source.value, target.value), []).append(event.value)
    lines = ["stateDiagram-v2", f"    [*] --> {table.begins.value}"]
    lines += [f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in arrows.items()]
    ends = dict.fromkeys(target for target in table.rows.values() if is_final(table, target))
    lines += [f"    {end.value} --> [*]" for end in ends]
    return "\n".join(lines)


def _section(table: Table[S, E]) -> str:
    return f"## {table.life.capitalize()}\n\n{table.story}\n\n```mermaid\n{render(table)}\n```\n"


def document() -> str:
    """The whole text of docs/internals/lifecycles.md."""
    head = (
        "# Lifecycles\n\n"
        "Drawn from the tables in `src/roost/core/lifecycle.py`; a test fails when this page is not what they say. Write it anew with\n\n"
        "```\npython -c \"from roost.core.lifecycle import document; print(document(), end='')\" > docs/internals/lifecycles.md\n```\n\n"
        "An event that a state has no arrow for raises `IllegalEvent`. Each change is one guarded statement in the store: when the row is\n"
        "no longer in a state that the event may happen in, nothing is written, because somebody else decided first.\n"
    )
    lives = [
        _section(RUNNER),
        _section(REVISION),
        _section(RELEASE),
        _section(ENV),
        _section(REQUEST),
        _section(ATTEMPT),
        _section(WEBHOOK),
    ]
    return "\n".join([head, *lives])
