"""Waits as long as the caller says: what a caller waits beyond that is ours."""

import asyncio

from pydantic import BaseModel

import roost


class Input(BaseModel):
    ms: int


class Waits(roost.App):
    keep_alive = 300
    max_concurrency = 1
    max_multiplexing = 64

    @roost.endpoint("/")
    async def wait(self, input: Input) -> dict:
        await asyncio.sleep(input.ms / 1000)
        return {"waited": input.ms}
