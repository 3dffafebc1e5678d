"""Calls that take as long as the caller says; a public app and a private one, and one whose runner takes seconds to be ready."""

import asyncio
import os
import time

from pydantic import BaseModel

import roost

GATE = os.environ.get("GATE", "")


class Wish(BaseModel):
    ms: int = 0
    mark: str = ""


class Timed(roost.App, keep_alive=300, max_multiplexing=64, max_concurrency=1):
    app_name = "timed"

    @roost.endpoint("/")
    async def wait(self, wish: Wish) -> dict:
        await asyncio.sleep(wish.ms / 1000)
        return {"mark": wish.mark, "pid": os.getpid()}


class OpenTimed(Timed, app_auth="public"):
    app_name = "open-timed"


class Slow(roost.App, keep_alive=300, max_multiplexing=64, max_concurrency=1):
    """Is ready when the test says so, by a file."""

    app_name = "slow"

    def setup(self):
        while not os.path.exists(GATE):
            time.sleep(0.05)

    @roost.endpoint("/")
    async def answer(self, wish: Wish) -> dict:
        return {"mark": wish.mark}


class Brief(roost.App, keep_alive=1, max_multiplexing=1, max_concurrency=2, termination_grace_period_seconds=1, request_timeout=20):
    """A runner that does not live long without a call."""

    app_name = "brief"

    @roost.endpoint("/")
    async def wait(self, wish: Wish) -> dict:
        await asyncio.sleep(wish.ms / 1000)
        return {"mark": wish.mark, "pid": os.getpid()}

    @roost.endpoint("/last")
    async def last(self, wish: Wish) -> dict:
        await asyncio.sleep(wish.ms / 1000)
        raise roost.AppException("enough", 503)
