"""The task of lost.py under BentoML: `bentoml serve lost_bentoml:Lost`. Each run of its handler leaves a line in a file."""

import asyncio
import os

import bentoml


@bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Lost:
    @bentoml.task(route="/work")
    async def work(self, n: int) -> int:
        await asyncio.sleep(0.05)
        with open(os.environ["EFFECTS"], "a") as effects:  # noqa: ASYNC230 - a line is a microsecond
            effects.write(f"{n}\n")
        return n
