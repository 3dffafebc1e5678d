"""preload, setup, teardown and handle_exit, each at most once per app (spec: app-lifecycle.md §4, §8).

Runners call these directly, and an author's own `lifespan` may reach them through super(): whatever the order, the second call of each
does nothing.
"""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roost.sdk.app import App

_STAGE = "_roost_stage"


@dataclass
class _Stage:
    preloaded: bool = False
    begun: bool = False
    ready: bool = False
    torn_down: bool = False
    exit_handled: bool = False


def has_begun(app: App) -> bool:
    """Whether setup() has begun, so that there is something like a current request."""
    return _stage(app).begun


def run_preload(app: App) -> None:
    """Run the author's preload(), once: in a template, or in a runner that has none. What it raises comes through."""
    stage = _stage(app)
    if not stage.preloaded:
        stage.preloaded = True
        app.preload()


async def run_setup(app: App) -> None:
    """Run the author's setup() on this loop, once. What it raises comes through; the app is then not ready."""
    stage = _stage(app)
    if stage.begun:
        return
    run_preload(app)
    stage.begun = True
    _announce("SETUP")
    result = app.setup()
    if inspect.isawaitable(result):
        await result
    stage.ready = True
    _announce("RUNNING")


async def run_teardown(app: App) -> None:
    """Run the author's teardown(), once, and only if setup() came to its end. What it raises comes through."""
    stage = _stage(app)
    if not stage.ready or stage.torn_down:
        return
    stage.torn_down = True
    _announce("TERMINATING")
    result = app.teardown()
    if inspect.isawaitable(result):
        await result


def run_handle_exit(app: App) -> None:
    """Run the author's handle_exit() inside the signal handler, once. What it raises is printed and goes no further.

    An `async def handle_exit` begins as soon as the loop turns, which a handler that holds the loop can delay; a plain `def` does not wait.
    """
    stage = _stage(app)
    if stage.exit_handled:
        return
    stage.exit_handled = True
    try:
        result = app.handle_exit()
        if inspect.isawaitable(result):
            _start(_printed(result))
    except Exception:
        traceback.print_exc()


def _start(work: Awaitable[None]) -> None:
    import asyncio  # late: defining an app needs none of it

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # told to stop before the loop ran
        asyncio.run(_await(work))
    else:
        # Threadsafe, because it also wakes a loop that sleeps while this signal arrives.
        loop.call_soon_threadsafe(lambda: _held.append(asyncio.ensure_future(work)))


_held: list[object] = []
"""A task that nobody holds may be collected before it has ended."""


async def _await(work: Awaitable[None]) -> None:
    await work


async def _printed(work: Awaitable[object]) -> None:
    try:
        await work
    except Exception:
        traceback.print_exc()


def _announce(state: str) -> None:
    os.environ["FAL_RUNNER_STATE"] = os.environ["ROOST_RUNNER_STATE"] = state


def _stage(app: App) -> _Stage:
    stage = vars(app).get(_STAGE)
    if stage is None:
        stage = vars(app)[_STAGE] = _Stage()
    return stage
