"""One call at a time, 20 ms each: at most 50 calls a second, however many callers there are."""

import asyncio

from pydantic import BaseModel

import roost


class Input(BaseModel):
    ms: int = 20


class Slots(roost.App):
    min_concurrency = 1
    max_concurrency = 1
    max_multiplexing = 1

    @roost.endpoint("/")
    async def work(self, input: Input) -> dict:
        await asyncio.sleep(input.ms / 1000)
        return {"ms": input.ms}
