"""Two apps whose handlers write down, outside of the server, that they began and that they are about to answer (tests/histories).

RECORD names the folder when the app is deployed; a job may name a subfolder, so that one deployed app serves many histories.
"""

import asyncio
import ctypes
import json
import os
import time
import uuid

from fastapi import Response
from pydantic import BaseModel

import roost

RECORD = os.environ.get("RECORD", "")
DIES = {"dies": lambda: os._exit(1), "segfaults": lambda: ctypes.string_at(0), "aborts": os.abort}


class Job(BaseModel):
    key: str
    """Of the submit, so that two requests of one key are noticed."""
    folder: str = ""
    ms: int = 5
    answer_bytes: int = 0
    padding: str = ""
    """Makes the input large."""
    mood: str = ""
    """again: the first attempt asks to be tried again. dies, segfaults, aborts: the first attempt takes its runner along; dies-always: each does.
    patient: goes on until it is cancelled. blocks: holds the event loop. gated: goes on until the folder has a file `go`."""


class Recorder(roost.App, keep_alive=300, min_concurrency=2, max_concurrency=2, max_multiplexing=8, termination_grace_period_seconds=1):
    app_name = "recorder"

    def setup(self):
        self.cancelled = {}

    @roost.endpoint("/")
    async def work(self, job: Job) -> Response:
        me = self.current_request
        attempt, token = int(me.headers.get("x-fal-attempt", "0")), uuid.uuid4().hex

        def note(what: str) -> None:
            line = {"at": time.monotonic_ns(), "what": what, "request": me.request_id, "attempt": attempt, "key": job.key, "token": token}
            file = os.open(os.path.join(RECORD, job.folder, f"handler-{os.getpid()}.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.write(file, (json.dumps(line) + "\n").encode())
            os.close(file)

        note("start")
        if job.mood == "dies-always" or (job.mood in DIES and attempt == 1):
            await asyncio.sleep(job.ms / 1000)
            DIES.get(job.mood, DIES["dies"])()
        if job.mood == "blocks":
            time.sleep(job.ms / 1000)  # noqa: ASYNC251 - that is the fault
        elif job.mood == "gated":
            while not os.path.exists(os.path.join(RECORD, job.folder, "go")):  # noqa: ASYNC110 - the test is another process
                await asyncio.sleep(0.02)
        elif job.mood == "patient":
            await self.cancelled.setdefault(me.request_id, asyncio.Event()).wait()
            note("finish")
            raise roost.RequestCancelledException
        else:
            await asyncio.sleep(job.ms / 1000)
        note("finish")
        said = {"key": job.key, "attempt": attempt, "token": token, "pid": os.getpid(), "padding": "x" * job.answer_bytes}
        if job.mood == "again" and attempt == 1:
            return Response(json.dumps(said), 500, {"x-fal-needs-retry": "1"}, "application/json")
        return Response(json.dumps(said), 200, None, "application/json")

    @roost.endpoint("/cancel")
    async def cancel(self) -> dict:
        self.cancelled.setdefault(self.current_request.request_id, asyncio.Event()).set()
        return {}


class Second(Recorder):
    app_name = "recorder-2"


class Single(Recorder, min_concurrency=1, max_concurrency=1, max_multiplexing=1):
    """One slot: what waits, waits."""

    app_name = "single"


class Impatient(Recorder, min_concurrency=1, max_concurrency=1, request_timeout=2):
    app_name = "impatient-recorder"
    skip_retry_conditions = ["timeout"]
