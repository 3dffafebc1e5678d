"""What authors are told, from what uv printed (several of its versions)."""

from __future__ import annotations

import pytest

from roost.builders.advice import Step, explain, is_unreachable, words
from roost.builders.base import BuildError, BuildInterrupted, BuildSettings
from roost.core.model import Recipe
from roost.kit.spawn import Exited

RECIPE = Recipe("3.11", (("six",), ("bee",)), ("fastapi==0.115.0", "pydantic==2.7.0"))


def told(text: str, step: Step | None = None, settings: BuildSettings | None = None) -> BuildError:
    exited = Exited("b", "build", 1, code=1, signal=None)
    return explain(step or Step("it failed", ("six",)), exited, text.splitlines(), RECIPE, settings or BuildSettings())


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        ("error: No space left on device (os error 28)", "disk is full"),
        ("error: No interpreter found for Python 3.11 in managed installations or search path", "Install python3.11 on the server"),
        ("error: Failed to inspect Python interpreter from first executable", "Install python3.11"),
        (
            "  × No solution found when resolving dependencies:\n  ╰─▶ Because you require pydantic==1.10 and pydantic==2.7.0, ...",
            "own pydantic, here 2.7.0",
        ),
        ("error: No solution found\n  cause: Because six was not found in the package registry", "spelling"),
        ("error: No solution found\n  cause: six==1 has no wheels with a matching Python ABI tag", "supports Python 3.11"),
        ("error: No solution found\n  cause: you require six==1 and six==2", "one set of versions"),
        ("error: Failed to fetch: `https://x/`\n  cause: invalid peer certificate: UnknownIssuer\n error sending request", "SSL_CERT_FILE"),
        ("error: Failed to fetch: `https://x/`\n  cause: dns error: failed to lookup", "cannot be reached"),
        ("error: Failed to fetch: `https://x/`\n  cause: HTTP status client error (401 Unauthorized)", "credentials"),
        ("error: Failed to build `bee==1`\n  cause: gcc", "no ready-made wheel"),
        ("error: Couldn't parse requirement in `layer-1.txt`", "requirements.txt"),
    ],
)
def test_the_advice_fits_the_failure(output: str, hint: str) -> None:
    assert hint in told(output).hint


def test_a_failure_that_nobody_knows_still_has_the_resolver_s_words() -> None:
    error = told("Using Python 3.11\nerror: the moon is in the wrong phase")
    assert error.detail == "it failed:\nerror: the moon is in the wrong phase"
    assert error.hint == ""


def test_a_conflict_in_a_later_layer_speaks_of_layers() -> None:
    assert "earlier layers" in told("error: No solution found\n  cause: you require six==1 and six==2", Step("x", ("bee",))).hint


def test_a_pin_is_blamed_only_for_its_exact_version() -> None:
    assert "author's own" not in told("error: No solution found\n  cause: you require pydantic==2.7.01 and pydantic==3").hint
    assert "author's own" not in told("error: No solution found\n  cause: you require my-pydantic==2.7.0 and six==3").hint


def test_downloads_are_not_advised_to_who_allows_them() -> None:
    assert "python_downloads" not in told("error: No interpreter found", settings=BuildSettings(python_downloads="automatic")).hint


@pytest.mark.parametrize(
    ("exited", "error", "text"),
    [
        (Exited("b", "build", 1, None, 9), BuildInterrupted, "signal 9"),
        (Exited("b", "build", 1, None, 9, oom_killed=True), BuildError, "out of memory"),
        (Exited("b", "build", None, None, None, error="no such file"), BuildError, "no such file"),
    ],
)
def test_an_end_without_words_says_how_it_ended(exited: Exited, error: type[BuildError], text: str) -> None:
    failure = explain(Step("it failed"), exited, [], RECIPE, BuildSettings())
    assert type(failure) is error and text in failure.detail


def test_long_output_keeps_its_beginning_and_its_end() -> None:
    shown = words(["Resolved 3 packages", "error: Failed to build", *(f"line {n}" for n in range(500)), "no frobnicator.h"]).splitlines()
    assert shown[0] == "error: Failed to build" and shown[-1] == "no frobnicator.h"
    assert len(shown) == 41 and "462 more lines" in shown[5]


def test_an_index_that_says_no_is_not_a_network_that_is_away() -> None:
    assert not is_unreachable(["error: Failed to fetch", "HTTP status client error (404 Not Found)"])
    assert is_unreachable(["error: Failed to fetch", "  cause: client error (Connect)"])
