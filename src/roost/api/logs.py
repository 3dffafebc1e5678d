"""Log streams: what runners printed, and with `follow` what they print from now on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from roost.api.answer import Lines
from roost.api.output import Find, Output
from roost.api.parts import ApiParts
from roost.api.request import Request
from roost.api.shapes import log_json
from roost.data.logs import MOST_LINES, Last, Since
from roost.kit.hints import wait

USUAL_LINES: Final = 1_000
FOLLOW_SINCE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Wish:
    """Which lines. Without any words about it: the last USUAL_LINES, or when following those of the last minute."""

    follow: bool
    lines: int
    since_ms: int | None


def asked(request: Request, now_ms: int) -> Wish:
    """`?follow=0/1&lines=N&since=ms`. Raises `unprocessable`."""
    follow, lines, since_ms = request.flag("follow"), request.whole("lines"), request.whole("since")
    if lines is None and since_ms is None:
        return Wish(True, MOST_LINES, now_ms - FOLLOW_SINCE_MS) if follow else Wish(False, USUAL_LINES, None)
    return Wish(follow, min(lines if lines is not None else MOST_LINES, MOST_LINES), since_ms)


class LogCalls:
    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

    async def tell(self, find: Find, wish: Wish, lines: Lines) -> None:
        """Say the lines of the runners that `find` answers. With `follow`, until the caller hangs up or the server hands over."""
        output = Output(self._parts.logs, find, Since(wish.since_ms) if wish.since_ms is not None else Last(wish.lines))
        await lines.say_all(log_json(line) for line in await output.past(self._parts.clock.now_ms(), wish.lines))
        if not wish.follow:
            return
        with self._parts.hints.listen("runners", "logs") as nudge:
            while not lines.gone:
                nudge.clear()
                await lines.say_all(log_json(line) for line in await output.poll())
                if self._parts.closing.is_set():
                    await lines.say({"event": "restarting"})
                    return
                await lines.beat()
                await wait(nudge, self._parts.about.poll_s)
