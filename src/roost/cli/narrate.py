"""What to say about a deploy or a run, decided from its events: events and the time in, lines out. Printing is screen.py's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from roost.control.events import Accepted, Attached, Beat, Event, LogLine, Lost, Step

SILENT_MS = 5_000
"""Without a terminal, a step that takes long is mentioned this often."""

WORDS = {
    "environment": ("Preparing the environment", "Environment ready"),
    "start": ("Starting a runner", "Runner started"),
    "setup": ("setup() running", "setup() finished"),
    "switch": ("Switching calls to the new revision", "Calls go to the new revision"),
}


class Kind(Enum):
    """What a line is, so that a screen knows where it belongs and whether it needs it."""

    BEGIN = "begin"
    """A step begins. A spinner shows that already."""
    RUNNING = "running"
    """A step still runs. A spinner shows that already."""
    DONE = "done"
    NOTE = "note"
    BUILD_LOG = "build log"
    LOG = "log"


@dataclass(frozen=True, slots=True)
class Line:
    kind: Kind
    text: str = ""
    log: LogLine | None = None
    """For LOG and BUILD_LOG: the line itself, which a screen paints."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is going on: the step that runs, since when, its newest detail, and when it was last mentioned."""

    step: str = ""
    since_ms: int = 0
    detail: str = ""
    said_ms: int = 0

    def caption(self, now_ms: int) -> str:
        """The words beside a spinner: `setup() running, 12 s`, and the detail if there is one. Empty when nothing runs."""
        if not self.step:
            return ""
        return f"{_words(self.step)[0]}, {max(0, now_ms - self.since_ms) // 1000} s{f' · {self.detail}' if self.detail else ''}"


def narrate(scene: Scene, event: Event, now_ms: int) -> tuple[Scene, tuple[Line, ...]]:
    """The scene after `event`, and what to say about it."""
    match event:
        case Accepted(application=application):
            return scene, (Line(Kind.NOTE, f"Accepted as {application}"),)
        case Step(state="begin"):
            begun = Scene(event.step, now_ms, event.detail, now_ms)
            return begun, (Line(Kind.BEGIN, f"{_words(event.step)[0]}{_detail(event.detail)}"),)
        case Step(state="end"):
            ms = event.ms if event.ms is not None else now_ms - scene.since_ms if event.step == scene.step else None
            took = "" if ms is None else f" in {ms / 1000:.1f} s"
            return Scene(), (Line(Kind.DONE, f"{_words(event.step)[1]}{took}{_detail(event.detail)}"),)
        case Step():
            running = scene if event.step == scene.step else Scene(event.step, now_ms, said_ms=now_ms)
            return _still_running(replace(running, detail=event.detail or running.detail), now_ms)
        case LogLine(source="builder"):
            return replace(scene, detail=event.message.strip()[:60], said_ms=now_ms), (Line(Kind.BUILD_LOG, log=event),)
        case LogLine():
            return scene, (Line(Kind.LOG, log=event),)
        case Beat():
            return _still_running(scene, now_ms)
        case Lost(reason=reason):
            return scene, (Line(Kind.NOTE, f"{reason} Attaching again ..."),)
        case Attached():
            return scene, (Line(Kind.NOTE, "Attached again."),)
        case _:
            return Scene(), ()


def _still_running(scene: Scene, now_ms: int) -> tuple[Scene, tuple[Line, ...]]:
    if not scene.step or now_ms - scene.said_ms < SILENT_MS:
        return scene, ()
    return replace(scene, said_ms=now_ms), (Line(Kind.RUNNING, scene.caption(now_ms)),)


def _words(step: str) -> tuple[str, str]:
    return WORDS.get(step, (step.capitalize(), f"{step.capitalize()} done"))


def _detail(detail: str) -> str:
    return f" ({detail})" if detail else ""
