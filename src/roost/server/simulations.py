"""Asks a process of its own what an app's past would have looked like: one at a time, and never for longer than its limit."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from roost.core.model import Scale
from roost.core.whatif import Lived
from roost.kit.spawn import Exited, Spawn, Spawner
from roost.server import replay
from roost.wire import ids
from roost.wire.errors import RoostError

_WAITING: Final = 2
"""More than so many questions at once are somebody's mistake."""
_PATIENCE_S: Final = replay.LIMIT_S + 5
"""Its own limit is of processor time, of which others may leave it little."""
_FOUND: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "LANG", "TZ")
"""What an interpreter needs to be the one that we are."""


class Simulations:
    """See `api.parts.Simulate`."""

    def __init__(self, spawner: Spawner, traffic: Path, spool: Path, flush: Callable[[], Awaitable[object]]) -> None:
        self._spawner = spawner
        self._traffic = traffic
        self._output = spool / "simulation"
        self._flush = flush
        self._one_at_a_time = asyncio.Lock()
        self._asking = 0
        self._ends: dict[str, asyncio.Future[Exited]] = {}
        spawner.subscribe("replay", self._on_exit)

    async def ask(self, application: str, since_ms: int, until_ms: int, lives: list[Lived], scales: list[Scale]) -> dict[str, Any]:
        """The answer of `server.replay`. Raises RoostError `conflict` when too many ask at once, `internal_error` when it fails."""
        if self._asking >= _WAITING:
            raise RoostError("conflict", f"{self._asking} simulations are under way", hint="Try again when one of them has ended.")
        self._asking += 1
        try:
            async with self._one_at_a_time:
                # What came in the last seconds belongs to it.
                await self._flush()
                return await self._run(replay.question(self._traffic, application, since_ms, until_ms, lives, scales))
        finally:
            self._asking -= 1

    async def _run(self, question: str) -> dict[str, Any]:
        name = f"replay-{ids.runner_id()}"
        ended: asyncio.Future[Exited] = asyncio.get_running_loop().create_future()
        self._ends[name] = ended
        env = {key: os.environ[key] for key in _FOUND if key in os.environ}
        argv = (sys.executable, "-m", replay.__name__)
        # Output is appended, and a server that was killed may have left some.
        self._output.unlink(missing_ok=True)
        try:
            await self._spawner.start(Spawn(name=name, kind="replay", argv=argv, env=env, stdin=question, output=str(self._output)))
            await asyncio.wait({ended}, timeout=_PATIENCE_S)
            return _answer(ended.result() if ended.done() else None, self._output)
        except OSError as error:
            raise _failed(str(error)) from error
        finally:
            if not ended.done():
                await self._spawner.kill(name)
            self._ends.pop(name, None)
            self._output.unlink(missing_ok=True)

    def _on_exit(self, exited: Exited) -> None:
        ended = self._ends.get(exited.name)
        if ended is not None and not ended.done():
            ended.set_result(exited)


def _answer(exited: Exited | None, output: Path) -> dict[str, Any]:
    if exited is None:
        raise _failed(f"it did not end within {_PATIENCE_S} s")
    said = output.read_text(errors="replace") if output.exists() else ""
    if exited.code != 0:
        how = f"exit {exited.code}" if exited.code is not None else exited.error or f"signal {exited.signal}"
        raise _failed(f"{how}: {said.strip().splitlines()[-1][:500] if said.strip() else 'it said nothing'}")
    return json.loads(said)


def _failed(why: str) -> RoostError:
    return RoostError(
        "internal_error", f"the simulation failed: {why}", hint="Ask for a shorter time, or for fewer settings at once.", status=500
    )
