"""One slot, taken for as long as the caller says: what is queued behind it stays queued."""

import asyncio

from pydantic import BaseModel

import roost


class Input(BaseModel):
    n: int = 0


class Held(roost.App):
    keep_alive = 300
    max_concurrency = 1
    max_multiplexing = 1

    @roost.endpoint("/")
    async def work(self, input: Input) -> dict:
        await asyncio.sleep(input.n)
        return {"n": input.n}
