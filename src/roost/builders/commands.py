"""Runs a program to its end through a spawner (the server itself never forks) and hands out its output while it runs."""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roost.kit.spawn import Exited, Spawn, Spawner

_LOOK_EVERY_S: Final = 0.1
# How long a killed program may take to be gone. Its folder is removed next, which it must not write to any more.
_GONE_WITHIN_S: Final = 10


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended and all that it printed."""

    exited: Exited
    lines: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return self.exited.code == 0


class Commands:
    """Starts programs of kind "build". Subscribes to their exits, so there is one for each spawner."""

    def __init__(self, spawner: Spawner) -> None:
        self._spawner = spawner
        self._waiting: dict[str, asyncio.Future[Exited]] = {}
        spawner.subscribe("build", self._on_exit)

    async def run(self, name: str, argv: tuple[str, ...], env: dict[str, str], output: Path, on_line: Callable[[str], None]) -> Ended:
        """Run `argv` in "/" with exactly `env`; `output` is the file that it writes to. Cancelling kills it and its children.

        Raises OSError with a sentence if it cannot be started.
        """
        ended: asyncio.Future[Exited] = asyncio.get_running_loop().create_future()
        # Before the start: a program that ends at once may be reported before `start` returns.
        self._waiting[name] = ended
        try:
            await self._spawner.start(Spawn(name=name, kind="build", argv=argv, env=env, output=str(output)))
            said: list[str] = []
            tail = _Tail(output)
            while not ended.done():
                await asyncio.wait({ended}, timeout=_LOOK_EVERY_S)
                _hand_out(tail.lines(), said, on_line)
            _hand_out(tail.rest(), said, on_line)
            return Ended(ended.result(), tuple(said))
        except asyncio.CancelledError:
            await self._spawner.kill(name)
            await asyncio.wait({ended}, timeout=_GONE_WITHIN_S)
            raise
        finally:
            self._waiting.pop(name, None)

    def _on_exit(self, exited: Exited) -> None:
        ended = self._waiting.get(exited.name)
        # Unknown: a program of a server before this one. Its folder is swept.
        if ended is not None and not ended.done():
            ended.set_result(exited)


def _hand_out(lines: list[str], said: list[str], on_line: Callable[[str], None]) -> None:
    for line in lines:
        said.append(line)
        on_line(line)


class _Tail:
    """Reads what has been appended to a file since the last look, in whole lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._partial = ""

    def lines(self) -> list[str]:
        *whole, self._partial = (
            (self._partial + self._decoder.decode(self._appended())).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        )
        return whole

    def rest(self) -> list[str]:
        whole = self.lines()
        return [*whole, self._partial] if self._partial else whole

    def _appended(self) -> bytes:
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset, os.SEEK_SET)
                data = file.read()
        except FileNotFoundError:
            return b""
        self._offset += len(data)
        return data
