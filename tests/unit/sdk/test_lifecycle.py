from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest

import roost
from roost.sdk.app import create, forget
from roost.sdk.lifecycle import run_handle_exit, run_setup, run_teardown
from roost.sdk.local import runner_environment


class Base(roost.App):
    def note(self, what: str) -> None:
        self.__dict__.setdefault("seen", []).append((what, os.environ["FAL_RUNNER_STATE"]))


class Sync(Base):
    def setup(self) -> None:
        self.note("setup")

    def teardown(self) -> None:
        self.note("teardown")

    def handle_exit(self) -> None:
        self.note("exit")


class Async(Base):
    async def setup(self) -> None:
        await asyncio.sleep(0)
        self.note("setup")

    async def teardown(self) -> None:
        await asyncio.sleep(0)
        self.note("teardown")

    async def handle_exit(self) -> None:
        await asyncio.sleep(0)
        self.note("exit")


@pytest.fixture(autouse=True)
def an_environment_that_is_put_back() -> Iterator[None]:
    with runner_environment():
        yield


@pytest.mark.parametrize("cls", [Sync, Async])
async def test_each_hook_runs_once_and_knows_the_state_of_the_runner(cls: type[Base]):
    app: Any = create(cls)
    try:
        for _ in range(2):
            await run_setup(app)
        assert os.environ["FAL_RUNNER_STATE"] == "RUNNING"
        for _ in range(2):
            run_handle_exit(app)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for _ in range(2):
            await run_teardown(app)
    finally:
        forget(app)
    assert app.seen == [("setup", "SETUP"), ("exit", "RUNNING"), ("teardown", "TERMINATING")]


async def test_what_setup_raises_comes_through_and_teardown_then_does_not_run():
    class Fails(Base):
        def setup(self) -> None:
            raise RuntimeError("no model")

        def teardown(self) -> None:
            self.note("teardown")

    app: Any = create(Fails)
    forget(app)
    with pytest.raises(RuntimeError, match="no model"):
        await run_setup(app)
    await run_teardown(app)
    assert not hasattr(app, "seen")


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_handle_exit_raises_is_printed_and_goes_no_further(asynchronous: bool, capsys: pytest.CaptureFixture[str]):
    class Plain(roost.App):
        def handle_exit(self) -> None:
            raise RuntimeError("too late")

    class Waits(roost.App):
        async def handle_exit(self) -> None:
            raise RuntimeError("too late")

    app = create(Waits if asynchronous else Plain)
    forget(app)
    run_handle_exit(app)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert "RuntimeError: too late" in capsys.readouterr().err


def test_an_asynchronous_handle_exit_runs_also_before_there_is_a_loop():
    app: Any = create(Async)
    forget(app)
    os.environ["FAL_RUNNER_STATE"] = "SETUP"
    run_handle_exit(app)
    assert app.seen == [("exit", "SETUP")]


def test_the_current_app_is_the_one_that_was_made_and_nobody_when_it_is_forgotten():
    assert roost.get_current_app() is None
    first, second = create(Sync), create(Async)
    assert roost.get_current_app() is second
    forget(second)
    assert roost.get_current_app() is first
    forget(first)
    forget(first)
    assert roost.get_current_app() is None
