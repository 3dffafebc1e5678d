"""50 ms of waiting, one call at a time, twenty runners at most."""

import asyncio

import roost


class Burst(roost.App):
    keep_alive = 300
    max_concurrency = 20
    machine_type = "XS"

    @roost.endpoint("/")
    async def work(self, input: dict) -> dict:
        await asyncio.sleep(0.05)
        return {}
