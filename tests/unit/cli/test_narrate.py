from __future__ import annotations

from roost.cli.narrate import Kind, Line, Scene, narrate
from roost.control.events import Accepted, Attached, Beat, Event, LogLine, Lost, Step


def _told(*moments: tuple[int, Event]) -> list[tuple[Kind, str]]:
    scene, told = Scene(), []
    for now_ms, event in moments:
        scene, lines = narrate(scene, event, now_ms)
        told += [(line.kind, line.text or (line.log.message if line.log else "")) for line in lines]
    return told


def test_a_deploy_tells_each_step_and_how_long_it_took() -> None:
    assert _told(
        (0, Accepted("me/hello", "r1")),
        (0, Step("environment", "begin")),
        (300, Step("environment", "end", ms=280)),
        (300, Step("start", "begin", "on S")),
        (1000, Step("start", "end")),
        (1000, Step("setup", "begin")),
        (2500, Step("setup", "end")),
    ) == [
        (Kind.NOTE, "Accepted as me/hello"),
        (Kind.BEGIN, "Preparing the environment"),
        (Kind.DONE, "Environment ready in 0.3 s"),
        (Kind.BEGIN, "Starting a runner (on S)"),
        (Kind.DONE, "Runner started in 0.7 s"),
        (Kind.BEGIN, "setup() running"),
        (Kind.DONE, "setup() finished in 1.5 s"),
    ]


def test_a_slow_setup_is_mentioned_every_five_seconds_while_the_server_only_beats() -> None:
    beats = [(ms, Beat()) for ms in range(2000, 14_001, 2000)]
    assert _told((0, Step("setup", "begin")), *beats) == [
        (Kind.BEGIN, "setup() running"),
        (Kind.RUNNING, "setup() running, 6 s"),
        (Kind.RUNNING, "setup() running, 12 s"),
    ]


def test_beats_between_steps_say_nothing() -> None:
    assert _told((0, Step("setup", "begin")), (10, Step("setup", "end", ms=10)), (60_000, Beat()))[2:] == []


def test_a_caption_has_the_elapsed_time_and_the_newest_detail() -> None:
    scene, _ = narrate(Scene(), Step("environment", "begin"), 1_000)
    scene, lines = narrate(scene, LogLine("", "INFO", "builder", "  Downloading torch  \n"), 2_000)
    assert scene.caption(13_500) == "Preparing the environment, 12 s · Downloading torch"
    assert lines[0].kind is Kind.BUILD_LOG
    assert Scene().caption(5) == ""


def test_progress_of_a_step_whose_begin_was_missed_begins_it() -> None:
    scene, _ = narrate(Scene(), Step("setup", "progress", "half"), 4_000)
    assert scene == Scene("setup", 4_000, "half", 4_000)


def test_what_the_author_prints_is_passed_on_as_it_is() -> None:
    line = LogLine("2030-01-01T00:00:00.000Z", "STDOUT", "user", "hello")
    assert narrate(Scene("setup", 1, "", 1), line, 2) == (Scene("setup", 1, "", 1), (Line(Kind.LOG, log=line),))


def test_a_lost_and_found_server_is_told() -> None:
    assert _told((0, Lost("It went away.")), (1, Attached())) == [
        (Kind.NOTE, "It went away. Attaching again ..."),
        (Kind.NOTE, "Attached again."),
    ]


def test_a_step_that_this_version_does_not_know_is_shown_by_its_name() -> None:
    assert _told((0, Step("warming", "begin")), (100, Step("warming", "end"))) == [
        (Kind.BEGIN, "Warming"),
        (Kind.DONE, "Warming done in 0.1 s"),
    ]
