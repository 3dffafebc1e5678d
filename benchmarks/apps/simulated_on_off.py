"""For calls with long pauses, in which it sleeps."""

import asyncio
import random
import time

from pydantic import BaseModel

import roost


class Input(BaseModel):
    ms: int = 200


class SimulatedOnOff(roost.App):
    keep_alive = 2
    max_concurrency = 4
    machine_type = "XS"

    def setup(self):
        time.sleep(random.uniform(0.4, 0.7))

    @roost.endpoint("/")
    async def work(self, input: Input) -> dict:
        await asyncio.sleep(input.ms / 1000)
        return {"ms": input.ms}
