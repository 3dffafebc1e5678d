"""What official clients are tried against: one app that many call at once, and the same with one slot, where what waits waits.

RECORD names a folder when they are deployed: each call with a mark leaves a line in the file of that name, so that a test can count them.
"""

import asyncio
import base64
import os

from fastapi import HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

import roost

RECORD = os.environ.get("RECORD", "")


class Words(BaseModel):
    text: str
    times: int = Field(default=1, ge=1, le=1000)


class Song(Words):
    gate: str = ""
    """The last event is not sent before RECORD has a file of this name."""


class Said(BaseModel):
    text: str


class Job(BaseModel):
    mark: str = ""
    ms: int = 0
    steps: int = 0
    """Prints so many lines on its way."""
    gate: str = ""
    """Then goes on only when RECORD has a file of this name."""


class Wish(BaseModel):
    mark: str = ""
    status: int = 200
    body: str = "{}"
    headers: dict[str, str] = {}


class File(BaseModel):
    url: str


async def opened(gate: str) -> None:
    while gate and not os.path.exists(os.path.join(RECORD, gate)):  # noqa: ASYNC110  # another process makes the file
        await asyncio.sleep(0.02)


class Parrot(roost.App, keep_alive=300, max_multiplexing=64, max_concurrency=1, termination_grace_period_seconds=1):
    app_name = "parrot"

    def setup(self):
        self.cancelled = {}

    def note(self, mark: str) -> None:
        if mark:
            with open(os.path.join(RECORD, mark), "a") as file:
                file.write("called\n")

    @roost.endpoint("/")
    async def say(self, words: Words) -> Said:
        return Said(text=" ".join([words.text] * words.times))

    @roost.endpoint("/work")
    async def work(self, job: Job) -> dict:
        self.note(job.mark)
        for number in range(job.steps):
            print("step", number)
            await asyncio.sleep(job.ms / 1000 / job.steps)
        if not job.steps:
            await asyncio.sleep(job.ms / 1000)
        while job.gate and not os.path.exists(os.path.join(RECORD, job.gate)):  # noqa: ASYNC110  # another process makes the file
            await asyncio.sleep(0.02)
        return {"mark": job.mark, "request_id": self.current_request.request_id}

    @roost.endpoint("/patient")
    async def patient(self, job: Job) -> dict:
        """Goes on until it is cancelled."""
        self.note(job.mark)
        await self.cancelled.setdefault(self.current_request.request_id, asyncio.Event()).wait()
        self.note(f"{job.mark}-cancelled")
        raise roost.RequestCancelledException

    @roost.endpoint("/patient/cancel")
    async def cancel(self) -> dict:
        self.cancelled.setdefault(self.current_request.request_id, asyncio.Event()).set()
        return {}

    @roost.endpoint("/headers")
    async def headers(self, request: Request) -> dict:
        return dict(request.headers.items())

    @roost.endpoint("/answer")
    async def answer(self, wish: Wish) -> Response:
        """Whatever the caller wants as an answer."""
        self.note(wish.mark)
        return Response(wish.body, wish.status, wish.headers, "application/json")

    @roost.endpoint("/raise")
    async def fail(self, wish: Wish) -> dict:
        self.note(wish.mark)
        if wish.status != 200:
            raise HTTPException(wish.status, wish.body)
        raise ValueError("as wished")

    @roost.endpoint("/die")
    async def die(self, job: Job) -> dict:
        self.note(job.mark)
        os._exit(1)

    @roost.endpoint("/size")
    async def size(self, file: File) -> dict:
        """Of a data URI."""
        head, _, data = file.url.partition(",")
        return {"head": head, "size": len(base64.b64decode(data))}

    @roost.endpoint("/stream")
    async def stream(self, song: Song) -> StreamingResponse:
        async def events():
            for number in range(song.times):
                if number == song.times - 1:
                    await opened(song.gate)
                yield f'data: {{"number": {number}, "text": "{song.text}"}}\n\n'
                await asyncio.sleep(0.02)

        return StreamingResponse(events(), media_type="text/event-stream")


class Single(Parrot, keep_alive=300, max_multiplexing=1, max_concurrency=1):
    app_name = "single-parrot"


class Mortal(Parrot, keep_alive=300, max_multiplexing=1, max_concurrency=2):
    """For calls that take their runner along."""

    app_name = "mortal-parrot"
    skip_retry_conditions = ["server_error"]
