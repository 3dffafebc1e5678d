"""What holds for every test: nobody's real server, keys or home folder is ever touched, and a failure can be repeated."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

# The same examples on each run: a red build is about the change, not about luck. No deadline: machines are shared.
hypothesis.settings.register_profile("roost", derandomize=True, deadline=None)
hypothesis.settings.load_profile("roost")


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_that_works() -> Iterator[None]:
    """SIGINT and SIGQUIT as at a terminal. A shell that starts us in its background lets us ignore both, and what tests start would inherit it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGQUIT)}
    if before[signal.SIGINT] is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if before[signal.SIGQUIT] is signal.SIG_IGN:
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="session")
def a_home_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Point ROOST_HOME at an empty folder and forget the developer's own settings, also for the programs that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("ROOST_", "FAL_")):
                patch.delenv(name)
        patch.setenv("ROOST_HOME", str(tmp_path_factory.mktemp("roost-home")))
        yield


@pytest.fixture(autouse=True)
def an_environment_that_stays_as_it_was() -> Iterator[None]:
    """What an app under test announces in os.environ (FAL_RUNNER_STATE, ...) is forgotten before the next test."""
    yield
    for name in ("FAL_RUNNER_STATE", "ROOST_RUNNER_STATE", "IS_ISOLATE_AGENT"):
        os.environ.pop(name, None)
