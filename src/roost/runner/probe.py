"""The app's health, asked by a call of its own: beside all other calls, without a slot, and counted nowhere."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from typing import Any, Final

from roost.runner.dispatch import AsgiApp, Message
from roost.runner.heads import request_of
from roost.runner.logs import Output
from roost.wire.frames import RequestHead

_HEADERS: Final = [(b"x-fal-runner-health-check", b"true"), (b"content-type", b"application/json")]
_BODY: Final = b"{}"
"""Of a POST: also an endpoint that takes a model, with a default for every field, can be a check."""


class Prober:
    """Asks on the app's event loop. `answer` gets the report for the server."""

    def __init__(self, app: AsgiApp, output: Output, answer: Callable[[dict[str, Any]], None], process_ends: Callable[[], None]) -> None:
        self._app = app
        self._output = output
        self._answer = answer
        self._process_ends = process_ends
        self._task: asyncio.Task[None] | None = None

    def ask(self, order: dict[str, Any]) -> None:
        """Begin to answer a "health" order. The code of one that took too long is not begun a second time while it runs."""
        if self._task is not None and not self._task.done():
            self._answer({"op": "health", "id": order["id"], "status": 0, "detail": "is still busy with the check before"})
            return
        question = _Question(order, self._answer)
        self._task = asyncio.get_running_loop().create_task(self._run(question))
        asyncio.get_running_loop().call_later(order["timeout_ms"] / 1000, question.give_up)

    async def _run(self, question: _Question) -> None:
        try:
            await self._app(question.scope(), question.receive, question.send)
            question.end("ended the call without an answer")
        except Exception as error:
            # What the app's own handlers catch is an answer, and printed; this is what escapes them.
            if question.end(f"raised {type(error).__name__}"):
                self._output.say("".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip())
        except asyncio.CancelledError:
            # By the handler itself, or at the end of the process, where nobody hears it any more.
            question.end("was cancelled")
        except (SystemExit, KeyboardInterrupt):
            self._process_ends()
            raise


class _Question:
    """One call of the check, and the one report of it."""

    def __init__(self, order: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
        self._order = order
        self._report: Callable[[dict[str, Any]], None] | None = answer
        self._body: bytes | None = _BODY if order["method"] == "POST" else b""
        self._status = 0
        self._over = asyncio.Event()

    def scope(self) -> dict[str, Any]:
        length = (b"content-length", b"%d" % len(self._body or b""))
        return request_of(RequestHead(self._order["method"], self._order["path"].encode(), b"", [*_HEADERS, length])).scope

    def give_up(self) -> None:
        self.end(f"did not answer within {self._order['timeout_ms'] / 1000:g} s")

    def end(self, detail: str) -> bool:
        """Report that there was no answer; False if there was a report already."""
        return self._tell({"status": 0, "detail": detail})

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        # The head alone is not enough: a body that never ends is no good answer.
        if message["type"] == "http.response.start":
            self._status = int(message["status"])
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self._tell({"status": self._status})

    def _tell(self, result: dict[str, Any]) -> bool:
        report, self._report = self._report, None
        self._over.set()
        if report is None:
            return False
        report({"op": "health", "id": self._order["id"], **result})
        return True
