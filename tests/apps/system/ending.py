"""Writes down what happens to it, in a file that the author's machine named."""

import asyncio
import os
import time

from fastapi import Request, Response
from pydantic import BaseModel

import roost

JOURNAL = os.environ.get("JOURNAL", "/dev/null")


def note(*words):
    with open(JOURNAL, "a") as journal:
        journal.write(" ".join(map(str, words)) + "\n")


class Wish(BaseModel):
    ms: int = 0
    mark: str = ""


class Ending(roost.App, keep_alive=300, max_multiplexing=4, max_concurrency=1, request_timeout=2, termination_grace_period_seconds=5):
    app_name = "ending"

    def setup(self):
        self.cancelled = {}
        note("setup")

    def handle_exit(self):
        note("handle_exit", os.environ["FAL_RUNNER_STATE"])

    def teardown(self):
        note("teardown", os.environ["FAL_RUNNER_STATE"])

    @roost.endpoint("/")
    async def wait(self, wish: Wish) -> dict:
        note("began", wish.mark)
        await asyncio.sleep(wish.ms / 1000)
        note("ended", wish.mark)
        return {"pid": os.getpid()}

    @roost.endpoint("/blocks")
    async def blocks(self, wish: Wish) -> dict:
        """Holds the event loop, as a model that computes does."""
        note("began", wish.mark)
        time.sleep(wish.ms / 1000)  # noqa: ASYNC251
        note("ended", wish.mark)
        return {"pid": os.getpid()}

    @roost.endpoint("/answer")
    async def answer(self, request: Request) -> Response:
        wish = await request.json()
        return Response(str(os.getpid()), wish["status"], headers=wish.get("headers"))

    @roost.endpoint("/gives-up")
    async def gives_up(self, wish: Wish) -> dict:
        raise roost.RequestCancelledException("given up")

    @roost.endpoint("/work")
    async def work(self, wish: Wish, request: Request) -> dict:
        me = self.current_request.request_id
        cancelled = self.cancelled[me] = asyncio.Event()
        note("began", wish.mark)
        await cancelled.wait()
        message = await request.receive()
        note("work is over", me, message["type"])
        raise roost.RequestCancelledException

    @roost.endpoint("/work/cancel")
    async def cancel(self) -> dict:
        me = self.current_request.request_id
        note("cancel", me, me in self.cancelled)
        self.cancelled[me].set()
        return {}


class EndingLater(Ending, keep_alive=300, max_multiplexing=4, max_concurrency=1, termination_grace_period_seconds=5):
    """The same with hooks that are `async def`."""

    app_name = "ending-later"

    async def setup(self):
        await asyncio.sleep(0.01)
        self.cancelled = {}
        note("setup")

    async def handle_exit(self):
        await asyncio.sleep(0.01)
        note("handle_exit", os.environ["FAL_RUNNER_STATE"])

    async def teardown(self):
        await asyncio.sleep(0.01)
        note("teardown", os.environ["FAL_RUNNER_STATE"])


class Stuck(roost.App, keep_alive=300, termination_grace_period_seconds=1):
    app_name = "stuck"

    @roost.endpoint("/")
    async def wait(self, wish: Wish) -> dict:
        return {}

    def teardown(self):
        note("teardown began")
        time.sleep(60)


class Unused(roost.App, keep_alive=60):
    app_name = "unused"

    @roost.endpoint("/")
    async def wait(self, wish: Wish) -> dict:
        return {}


class Fleeting(Unused, keep_alive=1):
    app_name = "fleeting"


class Waking(roost.App, keep_alive=300, max_multiplexing=64, max_concurrency=1):
    """Takes some seconds to be ready."""

    app_name = "waking"

    def setup(self):
        note("waking")
        time.sleep(5)

    @roost.endpoint("/")
    async def answer(self, wish: Wish) -> dict:
        return {"mark": wish.mark}
