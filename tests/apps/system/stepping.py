"""Calls that print as they go, answer bytes, or call another app from inside their runner."""

import asyncio

from fastapi import Request, Response
from pydantic import BaseModel

import roost


class Steps(BaseModel):
    count: int = 3
    ms: int = 0


class Stepping(roost.App, keep_alive=300, max_multiplexing=8, max_concurrency=1):
    @roost.endpoint("/")
    async def walk(self, steps: Steps) -> dict:
        for number in range(steps.count):
            print("step", number)
            await asyncio.sleep(steps.ms / 1000)
        return {"walked": steps.count}

    @roost.endpoint("/mirror")
    async def mirror(self, request: Request) -> Response:
        return Response(await request.body(), media_type=request.headers["content-type"])


class Onward(roost.App, keep_alive=300, max_concurrency=1):
    requirements = ["httpx"]

    @roost.endpoint("/")
    async def onward(self, steps: Steps) -> dict:
        async with roost.AsyncClient() as client:
            return await client.subscribe("stepping", {"count": steps.count})
