"""An app that tells how a call reached it, for tests with something between caller and server."""

import asyncio

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

import roost


class Wish(BaseModel):
    ms: int = 0
    mark: str = ""


class Behind(roost.App, app_auth="private", keep_alive=300, max_multiplexing=32, max_concurrency=1):
    def setup(self):
        self.unwanted = asyncio.Event()

    @roost.endpoint("/")
    async def wait(self, wish: Wish) -> dict:
        print("waiting", wish.mark)
        await asyncio.sleep(wish.ms / 1000)
        return {"mark": wish.mark}

    @roost.endpoint("/patient")
    async def patient(self, wish: Wish) -> dict:
        """Ends when its caller does not want it any more."""
        self.unwanted.clear()
        await self.unwanted.wait()
        return {}

    @roost.endpoint("/patient/cancel")
    async def cancel(self, request: Request) -> dict:
        self.unwanted.set()
        return {}

    @roost.endpoint("/seen")
    async def seen(self, request: Request) -> dict:
        return {name: value for name, value in request.headers.items() if name.startswith(("x-forwarded", "host", "x-real-ip"))}

    @roost.endpoint("/size")
    async def size(self, request: Request) -> dict:
        return {"size": len(await request.body())}

    @roost.endpoint("/stream")
    async def stream(self, wish: Wish) -> StreamingResponse:
        async def produce():
            for number in range(3):
                yield f'data: {{"number": {number}}}\n\n'
                await asyncio.sleep(wish.ms / 1000)

        return StreamingResponse(produce(), media_type="text/event-stream")

    def _add_extra_routes(self, app):
        super()._add_extra_routes(app)

        async def anything(request: Request) -> dict:
            return {"raw_path": request.scope["raw_path"].decode("latin-1")}

        app.add_api_route("/any{rest:path}", anything, methods=["GET"])
