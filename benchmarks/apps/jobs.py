"""A job that costs nothing: what remains is the queue. `hold` keeps the runner's slots, so that what is queued stays queued."""

from pydantic import BaseModel

import roost


class Input(BaseModel):
    n: int = 0


class Jobs(roost.App):
    keep_alive = 300
    max_concurrency = 1
    max_multiplexing = 64

    @roost.endpoint("/")
    async def work(self, input: Input) -> dict:
        return {"n": input.n}
