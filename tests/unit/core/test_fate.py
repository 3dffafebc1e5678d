from __future__ import annotations

import pytest

from roost.core.fate import Check, Keep, OutOfMemory, ProbeLoop, Stop, after_response, classify_disconnect, describe_end
from roost.wire.errors import CODES


@pytest.mark.parametrize("status", [200, 204, 301, 400, 404, 422, 429, 499])
def test_answers_below_500_are_the_callers_affair(status: int) -> None:
    assert after_response(status) == Keep()


@pytest.mark.parametrize("status", [500, 501, 502, 504, 599])
def test_a_5xx_has_the_loop_probed(status: int) -> None:
    assert after_response(status) == ProbeLoop(f"the app answered {status}", failed=True)


def test_one_503_ends_the_runner() -> None:
    assert after_response(503) == Stop("the app answered 503", failed=True)


@pytest.mark.parametrize("status", [200, 404, 500, 503])
@pytest.mark.parametrize("value", ["1", "true", " True "])
def test_the_stop_header_ends_the_runner_with_any_status(status: int, value: str) -> None:
    assert isinstance(after_response(status, value), Stop)


@pytest.mark.parametrize("status", [200, 500, 503])
@pytest.mark.parametrize("value", ["0", "false", "FALSE"])
def test_the_stop_header_can_forbid_the_end(status: int, value: str) -> None:
    assert after_response(status, value) == Keep()


@pytest.mark.parametrize("value", ["true", "1", "yes", " True "])
@pytest.mark.parametrize(("status", "stop"), [(200, None), (404, None), (500, None), (504, "0"), (503, "false")])
def test_the_check_header_has_the_health_asked(status: int, stop: str | None, value: str) -> None:
    assert after_response(status, stop, value) == Check("the app asked for a check with x-fal-runner-health-check", failed=status >= 500)


@pytest.mark.parametrize("value", ["", "0", "false", " FALSE "])
def test_a_check_header_that_says_no_changes_nothing(value: str) -> None:
    assert after_response(200, None, value) == Keep()
    assert after_response(500, None, value) == ProbeLoop("the app answered 500", failed=True)


@pytest.mark.parametrize(("status", "stop"), [(503, None), (200, "1")])
def test_nobody_checks_what_is_to_end_anyway(status: int, stop: str | None) -> None:
    assert isinstance(after_response(status, stop, "true"), Stop)


@pytest.mark.parametrize("value", ["", "yes", "2"])
def test_a_stop_header_that_says_neither_is_ignored(value: str) -> None:
    assert isinstance(after_response(503, value), Stop)
    assert after_response(200, value) == Keep()


@pytest.mark.parametrize(
    ("headers_received", "process_gone", "code", "status"),
    [
        (True, True, "runner_incomplete_response", 502),
        (True, False, "runner_incomplete_response", 502),
        (False, True, "runner_disconnected", 503),
        (False, False, "runner_connection_error", 503),
    ],
)
def test_a_broken_call_has_a_name(headers_received: bool, process_gone: bool, code: str, status: int) -> None:
    assert classify_disconnect(headers_received, process_gone) == code
    assert CODES[code].status == status


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (describe_end(1, None), "the process exited with code 1"),
        (describe_end(None, 11), "the process was killed by signal 11 (SIGSEGV)"),
        (describe_end(None, 64_000), "the process was killed by signal 64000 (unnamed)"),
        (describe_end(None, 9, memory=OutOfMemory()), "the process was killed because the machine was out of memory"),
        (
            describe_end(None, 9, memory=OutOfMemory(0, 700)),
            "the process was killed because the machine was out of memory; it held 700 MB at most",
        ),
        (
            describe_end(None, 9, memory=OutOfMemory(1024, 1180)),
            "the process was ended because it was out of memory: it held 1180 MB, and its machine type has 1024 MB",
        ),
        (
            describe_end(None, 9, memory=OutOfMemory(512)),
            "the process was ended because it was out of memory: it wanted more, and its machine type has 512 MB",
        ),
        (describe_end(None, None, "no such file: python"), "the process could not be started: no such file: python"),
        (describe_end(None, None), "the process ended"),
    ],
)
def test_an_end_is_told_in_words(end: str, words: str) -> None:
    assert end == words
