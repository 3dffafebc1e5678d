"""The task of benchmarks/lost.py: each run of its handler leaves a line in a file."""

import asyncio
import os

from pydantic import BaseModel

import roost

EFFECTS = os.environ.get("EFFECTS", "")


class Input(BaseModel):
    n: int


class Lost(roost.App):
    keep_alive = 300
    min_concurrency = 1
    max_concurrency = 1
    max_multiplexing = 16

    @roost.endpoint("/")
    async def work(self, input: Input) -> dict:
        await asyncio.sleep(0.05)
        with open(EFFECTS, "a") as effects:  # noqa: ASYNC230 - a line is a microsecond
            effects.write(f"{input.n}\n")
        return {"n": input.n}
