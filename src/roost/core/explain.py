"""Why things are as they are, in sentences: what a request waits for, why a runner lives or ended, what was decided about an app.

Values in, sentences out. How far a moment lies back or ahead is said as a duration; what happened keeps its moment beside it, because only
the reader knows the reader's time zone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from roost.core.model import (
    Alias,
    DecisionRecord,
    Event,
    Release,
    ReleaseKind,
    ReleaseState,
    Revision,
    RevisionState,
    Runner,
    RunnerState,
    Scale,
)
from roost.core.requests import Attempt, Priority, Request, RequestState
from roost.core.scaling import READY, STARTING

# --- what is known ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """What keeps further runners of an app from starting."""

    failed_starts: int = 0
    """Rounds in a row."""
    last_failure: str = ""
    next_start_ms: int = 0
    no_room_since_ms: int | None = None
    no_room: str = ""


@dataclass(frozen=True, slots=True)
class RunnerNow:
    """A runner's row, and what the living server sees of it."""

    row: Runner
    state: RunnerState
    """The public one: who has calls is RUNNING."""
    in_flight: int = 0
    slots: int = 0
    """Calls that it takes at once; 0 while it is not connected."""
    served: int | None = None
    """Calls that this server has sent to it; None while it is not connected."""
    idle_since_ms: int | None = None
    busy_since_ms: int | None = None
    """When the oldest queued request that it has was sent to it."""
    stopped: bool = False
    """Its process is stopped by a signal."""


@dataclass(frozen=True, slots=True)
class AppNow:
    """An app as it is at this moment."""

    application: str
    alias: Alias | None
    """None: it is not deployed (any more)."""
    runners: tuple[RunnerNow, ...] = ()
    """The living ones."""
    waiting: int = 0
    """Callers that wait at their connection."""
    queued: int = 0
    decision: DecisionRecord | None = None
    """The latest about its number of runners."""
    held: Held = Held()
    coming: tuple[Revision, ...] = ()
    """Revisions of which the packages are built or the first runner is started."""


@dataclass(frozen=True, slots=True)
class AppPast:
    """What happened to it, each the newest first."""

    decisions: tuple[DecisionRecord, ...] = ()
    releases: tuple[Release, ...] = ()
    never_ready: tuple[Runner, ...] = ()
    """Runners that ended before they were ready."""


@dataclass(frozen=True, slots=True)
class Waits:
    """How a queued request stands. `app` None: it is another account's, whose runners are not this caller's business."""

    ahead: int
    app: AppNow | None


# --- what is said ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """One sentence, and when it happened, if it is about the past."""

    text: str
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Part:
    title: str
    said: tuple[Said, ...]


Explanation = tuple[Part, ...]


def of_request(request: Request, attempts: Sequence[Attempt], events: Sequence[Event], waits: Waits, now_ms: int) -> Explanation:
    """How it stands, what it waits for, and how it came there."""
    match request.state:
        case RequestState.IN_QUEUE:
            now = _waiting(request, attempts, waits, now_ms)
        case RequestState.IN_PROGRESS:
            now = _under_way(request, now_ms)
        case RequestState.COMPLETED:
            now = _completed(request, now_ms)
    tried = [Said(_attempt(attempt), attempt.started_ms) for attempt in attempts]
    return _parts(("Now", _plain(now)), ("Attempts", tried), ("What happened", _story(events)))


def of_runner(runner: RunnerNow, events: Sequence[Event], scale: Scale | None, now_ms: int) -> Explanation:
    """Why it was started, what that cost, what it does, why it ended. `scale` is its app's, None when that is gone."""
    row = runner.row
    began = next((event.reason for event in events if event.kind == RunnerState.PENDING.value), "")
    now = [f"It is a runner of {row.application}, revision {row.revision_id[:8]}, machine type {row.machine_type}."]
    now.append(f"It was started {_ago(row.created_ms, now_ms)}{': ' + _first_line(began) if began else '; why is not kept any more'}.")
    now += _cold_start(row)
    if row.state is RunnerState.TERMINATED:
        now += _ended(row, now_ms)
    else:
        now += _living(runner, scale, now_ms)
    return _parts(("Now", _plain(now)), ("What happened", _story(events)))


def of_app(app: AppNow, past: AppPast, now_ms: int) -> Explanation:
    """How many runners it has and should have and why, what keeps them from starting, and what changed lately."""
    return _parts(
        ("Now", _plain(_app_now(app, now_ms))),
        ("Decisions", [Said(_decision(each), each.first_ms) for each in past.decisions]),
        ("Releases", [Said(_release(each), each.begun_ms) for each in past.releases]),
        ("Starts that did not become ready", [Said(_failed(each), each.created_ms) for each in past.never_ready]),
    )


# --- a request -----------------------------------------------------------------------------------------------------------


def _waiting(request: Request, attempts: Sequence[Attempt], waits: Waits, now_ms: int) -> list[str]:
    said = [f"It has waited for {_lasting(now_ms - request.created_ms)} for a runner of {request.application}."]
    if request.due_ms is not None and request.due_ms > now_ms:
        last = f" because attempt {attempts[-1].number} ended with {_first_line(attempts[-1].outcome)}" if attempts else ""
        said.append(f"A retry is due in {_lasting(request.due_ms - now_ms)}{last}; until then others go before it.")
    else:
        said.append(
            f"{_count(waits.ahead, 'request')} of this app {_go(waits.ahead)} before it." if waits.ahead else "It is the next to go."
        )
        said += _obstacles(waits.app, now_ms) if waits.app is not None else []
    if request.priority is Priority.LOW:
        said.append("Its priority is low: it goes when no request of normal priority waits.")
    if request.deaths:
        said.append(f"{_count(request.deaths, 'runner')} died in it: it never shares a runner with another such request.")
    if request.hint:
        said.append(f"It prefers a runner that knows {request.hint!r}, but takes any that is free.")
    if request.deadline_ms is not None:
        said.append(f"If it has not begun in {_lasting(max(0, request.deadline_ms - now_ms))} it ends: that is its start deadline.")
    return said


def _under_way(request: Request, now_ms: int) -> list[str]:
    since_ms = request.started_ms if request.started_ms is not None else request.created_ms
    said = [f"Attempt {request.attempt} has been under way for {_lasting(now_ms - since_ms)} on runner {request.runner_id}."]
    if request.cancel_asked:
        said.append("Its end is wanted: the app was told, and no further attempt begins.")
    return said


def _completed(request: Request, now_ms: int) -> list[str]:
    ended_ms = request.finished_ms if request.finished_ms is not None else request.created_ms
    if request.error or request.error_type:
        how = f"with the error {request.error_type or request.status}: {_first_line(request.error)}"
    else:
        how = f"because the app answered {request.status}"
    said = [f"It ended {_ago(ended_ms, now_ms)}, {_lasting(ended_ms - request.created_ms)} after it was submitted, {how}."]
    if request.attempt != 1:
        said.append(f"It took {_count(request.attempt, 'attempt')}." if request.attempt else "No runner ever had it.")
    if request.retry_of:
        said.append(f"It tried request {request.retry_of} once more.")
    if request.expires_ms is not None and request.expires_ms > now_ms:
        said.append(f"Its result is kept for another {_lasting(request.expires_ms - now_ms)}.")
    return said


def _attempt(attempt: Attempt) -> str:
    on = f"Attempt {attempt.number} on runner {attempt.runner_id}"
    if attempt.ended_ms is None:
        return f"{on} is under way"
    return f"{on} took {_lasting(attempt.ended_ms - attempt.started_ms)}: {_first_line(attempt.outcome) or attempt.state.value}"


# --- what whoever waits for a runner waits for ---------------------------------------------------------------------------


def _obstacles(app: AppNow, now_ms: int) -> list[str]:
    alias = app.alias
    if alias is None:
        return [f"{app.application} is not deployed: nothing serves it until it is."]
    if alias.revision_id is None:
        return _coming(app, now_ms) or [f"{app.application} has no revision yet: nothing serves it until a deploy succeeds."]
    own = [runner for runner in app.runners if runner.row.revision_id == alias.revision_id]
    stopped = [runner for runner in own if runner.state in READY and runner.stopped]
    ready = [runner for runner in own if runner.state in READY and not runner.stopped]
    starting = [runner for runner in own if runner.state in STARTING]
    said: list[str] = []
    if any(runner.in_flight < runner.slots for runner in ready):
        return ["A runner is free for it."]
    if ready:
        said.append(_busy(ready, now_ms))
    if stopped:
        said.append(f"{_count(len(stopped), 'runner')} {_is(len(stopped))} stopped by a signal (SIGSTOP).")
    living = len(ready) + len(stopped) + len(starting)
    if living >= alias.scale.max_concurrency:
        said.append(f"max_concurrency {alias.scale.max_concurrency} is reached.")
    said += [_starting(runner, alias.scale, now_ms) for runner in starting]
    missing = app.decision is not None and app.decision.runners > living
    held = _held(app, bool(starting), now_ms) if missing or not living or (starting and not ready) else []
    if not held and not own:
        if alias.scale.scaling_delay_ms:
            said.append(
                f"There is no runner; one is started for who has waited for scaling_delay {_lasting(alias.scale.scaling_delay_ms)}."
            )
        else:
            said.append("There is no runner yet; one is about to be started.")
    return said + held


def _held(app: AppNow, trying: bool, now_ms: int) -> list[str]:
    held = app.held
    said: list[str] = []
    if held.failed_starts:
        failed = (
            f"{_count(held.failed_starts, 'start')} in a row failed, the last one because {_first_line(held.last_failure) or 'it ended'}"
        )
        if trying:
            said.append(f"{failed}; one runner is trying again.")
        elif held.next_start_ms > now_ms:
            said.append(f"{failed}; the next is tried in {_lasting(held.next_start_ms - now_ms)}.")
        else:
            said.append(f"{failed}; the next is tried now.")
    if held.no_room_since_ms is not None:
        said.append(f"For {_lasting(now_ms - held.no_room_since_ms)} there has been no room for a further runner: {held.no_room}.")
    return said


def _busy(ready: Sequence[RunnerNow], now_ms: int) -> str:
    since = [runner.busy_since_ms for runner in ready if runner.busy_since_ms is not None]
    longest = f", the oldest queued call for {_lasting(now_ms - min(since))}" if since else ""
    calls = sum(runner.in_flight for runner in ready)
    who = "The one runner is" if len(ready) == 1 else f"All {len(ready)} runners are"
    return f"{who} busy with {_count(calls, 'call')}{longest}."


def _starting(runner: RunnerNow, scale: Scale, now_ms: int) -> str:
    where = "its setup() runs" if runner.state is RunnerState.SETUP else "its class is being loaded"
    age = _lasting(now_ms - runner.row.created_ms)
    return (
        f"Runner {runner.row.id} was started {age} ago and {where}; it has {_lasting(scale.startup_timeout_ms)} for each (startup_timeout)."
    )


def _coming(app: AppNow, now_ms: int) -> list[str]:
    said: list[str] = []
    for revision in app.coming:
        building = revision.state is RevisionState.BUILDING
        what = "its packages are being built" if building else "its first runner is being started"
        said.append(f"Revision {revision.id[:8]} was handed in {_ago(revision.created_ms, now_ms)}: {what}.")
    return said


# --- a runner ------------------------------------------------------------------------------------------------------------


def _cold_start(row: Runner) -> list[str]:
    start = row.cold_start
    if start is None:
        return []
    stages = ", ".join(f"{name} {_lasting(ms)}" for name, ms in start.stages)
    said = [f"Its cold start took {_lasting(start.ms)}: {stages}."]
    return said + ([f"It was not forked from the template that was there: {_first_line(start.why_spawned)}."] if start.why_spawned else [])


def _ended(row: Runner, now_ms: int) -> list[str]:
    ended_ms = row.ended_ms if row.ended_ms is not None else row.created_ms
    said = [
        f"It ended {_ago(ended_ms, now_ms)}, after {_lasting(ended_ms - row.created_ms)}: {_first_line(row.reason) or 'no reason is kept'}."
    ]
    return said if row.ready_ms is not None else [*said, "It never became ready."]


def _living(runner: RunnerNow, scale: Scale | None, now_ms: int) -> list[str]:
    said: list[str] = []
    match runner.state:
        case RunnerState.PENDING | RunnerState.SETUP:
            said.append("Its setup() runs." if runner.state is RunnerState.SETUP else "Its process starts and loads the class.")
        case RunnerState.RUNNING:
            said.append(f"It has {_count(runner.in_flight, 'call')}; it takes {runner.slots} at once.")
        case RunnerState.IDLE:
            idle = f" for {_lasting(now_ms - runner.idle_since_ms)}" if runner.idle_since_ms is not None else ""
            rule = f"; keep_alive is {_lasting(scale.keep_alive_ms)}" if scale is not None else ""
            said.append(f"It has been idle{idle}{rule}." if idle else f"It is idle{rule}.")
        case _:
            said.append(
                f"It is on its way out ({runner.state.value}) with {_count(runner.in_flight, 'call')}: {_first_line(runner.row.reason)}."
            )
    if runner.stopped:
        said.append("Its process is stopped by a signal (SIGSTOP): it gets no calls.")
    if runner.served is not None and runner.state not in STARTING:
        said.append(f"This server has sent it {_count(runner.served, 'call')}.")
    return said


# --- an app --------------------------------------------------------------------------------------------------------------


def _app_now(app: AppNow, now_ms: int) -> list[str]:
    alias = app.alias
    if alias is None:
        return [f"{app.application} is not deployed."]
    said: list[str] = []
    if alias.revision_id is not None:
        said.append(f"{app.application} points to revision {alias.revision_id[:8]}.")
    else:
        said.append(f"{app.application} has no revision yet.")
    said += _coming(app, now_ms)
    said.append(_demand(app))
    said.append(_supply(app))
    if app.decision is not None:
        wanted, age = _count(app.decision.runners, "runner"), _ago(app.decision.first_ms, now_ms)
        said.append(f"{wanted} {_is(app.decision.runners)} wanted, as was decided {age}: {app.decision.reason}.")
    if app.waiting or app.queued:
        said += _obstacles(app, now_ms) if alias.revision_id is not None else []
    else:
        said += _held(app, any(runner.state in STARTING for runner in app.runners), now_ms) if _is_short(app) else []
    return said


def _is_short(app: AppNow) -> bool:
    """Fewer runners than were decided."""
    living = [runner for runner in app.runners if runner.state in READY or runner.state in STARTING]
    return app.decision is not None and app.decision.runners > len(living)


def _demand(app: AppNow) -> str:
    in_flight = sum(runner.in_flight for runner in app.runners)
    if not (app.waiting or app.queued or in_flight):
        return "Nobody waits, and no call is in flight."
    queued = f"{_count(app.queued, 'request')} {_is(app.queued)} queued"
    waiting = f"{_count(app.waiting, 'caller')} {_wait(app.waiting)} at a connection"
    return f"{queued}, {waiting}, {_count(in_flight, 'call')} {_is(in_flight)} in flight."


def _supply(app: AppNow) -> str:
    counts: dict[str, int] = {}
    for runner in app.runners:
        counts[runner.state.value] = counts.get(runner.state.value, 0) + 1
    if not counts:
        return "It has no runner."
    return f"It has {_count(len(app.runners), 'runner')}: {', '.join(f'{count} {state}' for state, count in counts.items())}."


def _decision(record: DecisionRecord) -> str:
    return f"{_count(record.runners, 'runner')}: {record.reason}" + (f" (decided {record.times} times)" if record.times > 1 else "")


def _release(release: Release) -> str:
    words = {ReleaseKind.MOVE: "to revision", ReleaseKind.RENEW: "fresh runners of revision", ReleaseKind.TRIAL: "trial of revision"}
    what = words.get(release.kind, f"{release.kind.value} of revision")
    how = "under way" if release.state is ReleaseState.UNDER_WAY else release.state.value
    return f"{what} {release.revision_id[:8]} by {release.actor}: {how}{', ' + _first_line(release.reason) if release.reason else ''}"


def _failed(runner: Runner) -> str:
    took = f" after {_lasting(runner.ended_ms - runner.created_ms)}" if runner.ended_ms is not None else ""
    return f"runner {runner.id} of revision {runner.revision_id[:8]} ended{took}: {_first_line(runner.reason)}"


# --- words ---------------------------------------------------------------------------------------------------------------


def _parts(*parts: tuple[str, Sequence[Said]]) -> Explanation:
    return tuple(Part(title, tuple(said)) for title, said in parts if said)


def _plain(sentences: Iterable[str]) -> list[Said]:
    return [Said(sentence) for sentence in sentences]


def _story(events: Iterable[Event]) -> list[Said]:
    return [
        Said(f"{event.kind}{': ' + _first_line(event.reason) if event.reason else ''} (by {event.actor})", event.at_ms) for event in events
    ]


def _first_line(text: str) -> str:
    """Below it an author's traceback may follow, which the log has as well."""
    return text.partition("\n")[0].rstrip(".")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _go(number: int) -> str:
    return "goes" if number == 1 else "go"


def _wait(number: int) -> str:
    return "waits" if number == 1 else "wait"


def _ago(at_ms: int, now_ms: int) -> str:
    return f"{_lasting(max(0, now_ms - at_ms))} ago"


def _lasting(ms: float) -> str:
    """312 ms, 4.2 s, 12 s, 5 min, 3 h, 4 days."""
    if ms < 999.5:
        return f"{ms:.3g} ms"
    if ms < 9_950:
        return f"{ms / 1_000:.2g} s"
    if ms < 120_000:
        return f"{ms / 1_000:.0f} s"
    for size, name in ((86_400_000, "days"), (3_600_000, "h")):
        if ms >= 2 * size:
            return f"{ms / size:.0f} {name}"
    return f"{ms / 60_000:.0f} min"
