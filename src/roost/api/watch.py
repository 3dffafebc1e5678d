"""Following a revision until it is deployed or has failed, and telling its author: steps, build log, what its runners print.

Engines and this meet only in the store: it reads rows, and a hint merely makes it look sooner.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from roost.api import stage, verdict
from roost.api.answer import Lines
from roost.api.output import Output, of_revision
from roost.api.parts import ApiParts
from roost.api.shapes import log_json
from roost.core.model import EnvState, Revision, RevisionState, Runner, RunnerState
from roost.data.logs import BEGINNING, NOW, Follower, LogLine, Start, parse_build
from roost.kit.clock import Clock
from roost.kit.hints import wait
from roost.wire.errors import RoostError

LAST_WORDS_MS = 1_000
"""How long a failed revision's runners may take to end before their author gets the error without their last lines."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """`ms`: how long it took; None if its author was not here from the beginning."""

    revision: Revision
    ms: int | None


@dataclass(frozen=True, slots=True)
class Failed:
    error: RoostError


@dataclass(frozen=True, slots=True)
class CallerGone:
    """The author hung up."""


@dataclass(frozen=True, slots=True)
class ServerCloses:
    """Another server takes over, and with it the revision."""


Ending = Deployed | Failed | CallerGone | ServerCloses


class Watched:
    """Which revisions have an author at an open stream. One without may be taken up again by an author who comes back."""

    def __init__(self) -> None:
        self._ids: set[str] = set()

    def __contains__(self, revision_id: str) -> bool:
        return revision_id in self._ids

    @contextlib.contextmanager
    def watching(self, revision_id: str) -> Iterator[None]:
        self._ids.add(revision_id)
        try:
            yield
        finally:
            self._ids.discard(revision_id)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the lines of one revision come from."""

    build: BuildLog
    output: Output
    is_new: bool


class Watch:
    """Tells an author of a revision on its way."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts
        self._store = parts.store
        self._clock = parts.clock

    async def sources(self, revision: Revision, start: Start | None) -> Sources:
        """To be taken before anybody may begin to build. `start` None: the revision is new, and all that it prints is news."""
        env = await self._store.environments.get(revision.env_key)
        path = self._parts.builds.log_path(revision.env_key)
        if start is not None:
            build = BuildLog(path, self._clock, NOW)
        elif env is not None and env.state is EnvState.BUILDING:
            build = BuildLog(path, self._clock, BEGINNING)
        else:
            build = BuildLog(path, self._clock, BEGINNING, unless_ns=_written_ns(path))
        find = of_revision(self._store.runners, revision.id, revision.created_ms)
        return Sources(build, Output(self._parts.logs, find, start or BEGINNING), is_new=start is None)

    async def follow(self, revision: Revision, sources: Sources, lines: Lines) -> Ending:
        """Say what happens to this revision until it ends. The last lines are said before the ending is answered."""
        progress: stage.Progress | None = None
        with self._parts.hints.listen(f"revision:{revision.id}", "runners") as nudge:
            while True:
                # Cleared before the rows are read: a hint that comes while they are makes another round.
                nudge.clear()
                now = await self._store.revisions.get(revision.id) or revision
                runners = await self._store.runners.of_revision(revision.id)
                await _say_logs(lines, [*sources.build.poll(), *await sources.output.poll()])
                if now.state is RevisionState.FAILED:
                    await self._last_words(now, sources, lines)
                    return Failed(await self._error(now))
                step = stage.advance(
                    progress,
                    stage.stage_of(now, runners),
                    self._clock.now_ms(),
                    with_runner=now.plan.strategy != "recreate",
                    detail=self._waits_for(now, runners),
                )
                progress = step.progress
                await lines.say_all(step.events)
                if now.state is RevisionState.DEPLOYED:
                    return Deployed(now, self._clock.now_ms() - now.created_ms if sources.is_new else None)
                if lines.gone:
                    return CallerGone()
                if self._parts.closing.is_set():
                    return ServerCloses()
                await lines.beat()
                await wait(nudge, self._parts.about.poll_s)

    def _waits_for(self, revision: Revision, runners: Sequence[Runner]) -> str:
        wanted = self._parts.unplaced().get(f"{revision.owner}/{revision.name}")
        return wanted.reason if wanted is not None and not runners else ""

    async def _last_words(self, revision: Revision, sources: Sources, lines: Lines) -> None:
        """A traceback is written before its process ends, and the revision may have failed a moment earlier."""
        until_ms = self._clock.now_ms() + LAST_WORDS_MS
        with self._parts.hints.listen("runners") as nudge:
            while True:
                nudge.clear()
                runners = await self._store.runners.of_revision(revision.id)
                news = [*sources.build.poll(), *await sources.output.poll()]
                await _say_logs(lines, news)
                ending = [runner for runner in runners if runner.state is not RunnerState.TERMINATED]
                if not news and (not ending or self._clock.now_ms() >= until_ms or lines.gone):
                    return
                if not news:
                    await wait(nudge, self._parts.about.poll_s)

    async def _error(self, revision: Revision) -> RoostError:
        history = await self._store.events.list(f"revision:{revision.id}")
        was_built = any(event.kind == RevisionState.STARTING.value for event in history)
        return verdict.failure(revision, await self._store.environments.get(revision.env_key), was_built=was_built)

    async def give_up(self, revision: Revision, actor: str) -> None:
        """The author does not want it any more: whatever is under way ends. A revision that was deployed meanwhile stays."""
        under_way = (RevisionState.BUILDING, RevisionState.STARTING)
        await self._store.revisions.set_state(
            revision.id, under_way, RevisionState.FAILED, verdict.GIVEN_UP, self._clock.now_ms(), actor=actor
        )
        for topic in ("build", "rollout", "fleet", f"revision:{revision.id}"):
            self._parts.hints.give(topic)


class BuildLog:
    """The lines of a build. With `unless_ns`, a file that was last written to at that time is an earlier build's."""

    def __init__(self, path: Path, clock: Clock, start: Start, *, unless_ns: int | None = None) -> None:
        self._path = path
        self._old_ns = unless_ns
        self._follower = Follower(path, lambda raw: parse_build(raw, clock.now_ms()), start)

    def poll(self) -> list[LogLine]:
        if self._old_ns is not None:
            if _written_ns(self._path) == self._old_ns:
                return []
            self._old_ns = None
        return self._follower.poll()


def _written_ns(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


async def _say_logs(lines: Lines, found: Sequence[LogLine]) -> None:
    await lines.say_all({"event": "log", **log_json(line)} for line in found)
