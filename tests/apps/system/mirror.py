"""Shows a caller what the app gets, and answers in every way that an app may answer."""

import asyncio
import os
import threading
import time

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

import roost


class Wish(BaseModel):
    ms: int = 0
    mark: str = ""


class Crowd:
    """How many are inside at once, at most."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = 0

    def __enter__(self):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *error):
        with self.lock:
            self.now -= 1


class Mirror(roost.App, app_auth="public", keep_alive=300, max_multiplexing=64, max_concurrency=1):
    app_name = "mirror"
    requirements = ["python-multipart"]

    def setup(self):
        self.crowd = Crowd()

    @roost.endpoint("/")
    async def shown(self, request: Request) -> dict:
        return await show(self, request)

    @roost.endpoint("/size")
    async def size(self, request: Request) -> dict:
        count = 0
        async for chunk in request.stream():
            count += len(chunk)
        return {"size": count}

    @roost.endpoint("/echo")
    async def echo(self, request: Request) -> Response:
        return Response(await request.body(), media_type=request.headers.get("content-type", "application/octet-stream"))

    @roost.endpoint("/upload")
    async def upload(self, request: Request) -> dict:
        file = (await request.form())["file"]
        return {"name": file.filename, "type": file.content_type, "size": len(await file.read())}

    @roost.endpoint("/ticks")
    async def ticks(self, wish: Wish) -> StreamingResponse:
        async def produce():
            for number in range(5):
                yield f"tick {number}\n"
                await asyncio.sleep(wish.ms / 1000)

        return StreamingResponse(produce(), media_type="text/plain")

    @roost.endpoint("/flood")
    async def flood(self, request: Request) -> StreamingResponse:
        """200 MB, for readers that do not read."""

        async def produce():
            for _ in range(3200):
                yield bytes(65536)

        return StreamingResponse(produce())

    @roost.endpoint("/answer")
    async def answer(self, request: Request) -> Response:
        """Whatever the caller wants as an answer."""
        wish = await request.json()
        response = Response(wish.get("body", ""), wish.get("status", 200))
        response.raw_headers.extend((name.encode("latin-1"), value.encode("latin-1")) for name, value in wish.get("headers", []))
        return response

    @roost.endpoint("/fail")
    async def fail(self, wish: Wish) -> dict:
        raise ValueError("as wished")

    @roost.endpoint("/crowd")
    async def crowded(self, wish: Wish) -> dict:
        with self.crowd:
            await asyncio.sleep(wish.ms / 1000)
        return {"most": self.crowd.most}

    @roost.endpoint("/threads")
    def threads(self, wish: Wish) -> dict:
        """Holds a thread until as many are here as `mark` says."""
        until = time.monotonic() + wish.ms / 1000
        with self.crowd:
            while self.crowd.most < int(wish.mark) and time.monotonic() < until:
                time.sleep(0.02)
        return {"most": self.crowd.most}

    @roost.endpoint("/environ")
    async def environ(self, wish: Wish) -> dict:
        return {name: value for name, value in os.environ.items() if name.startswith(("FAL_", "ROOST_")) or name == "HF_HOME"}

    @roost.endpoint("/neighbour")
    def neighbour(self, wish: Wish) -> dict:
        """Calls another app with what the runner was given."""
        import urllib.request

        request = urllib.request.Request(
            f"http://{os.environ['FAL_RUN_HOST']}/{wish.mark}",
            b"{}",
            {"Authorization": f"Key {os.environ['FAL_KEY']}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return {"status": answer.status, "body": answer.read().decode()}

    def _add_extra_routes(self, app):
        super()._add_extra_routes(app)

        async def anything(request: Request) -> dict:
            return await show(self, request)

        app.add_api_route("/any{rest:path}", anything, methods=["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "POST"])


async def show(app, request):
    current = app.current_request
    return {
        "method": request.method,
        "path": request.scope["path"],
        "raw_path": request.scope["raw_path"].decode("latin-1"),
        "query": request.scope["query_string"].decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers.raw],
        "body": (await request.body()).decode("utf-8", "replace"),
        "current": {
            "request_id": current.request_id,
            "endpoint": current.endpoint,
            "lifecycle_preference": current.lifecycle_preference,
            "upload_policy": current.upload_policy,
        },
    }


class Closed(Mirror, app_auth="private", keep_alive=300, max_multiplexing=1, max_concurrency=1):
    app_name = "closed"


class Four(Mirror, app_auth="private", keep_alive=300, max_multiplexing=4, max_concurrency=1):
    app_name = "four"
