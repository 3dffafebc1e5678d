"""An app for slow callers: it streams more than anyone reads, and says how much of it was taken."""

from fastapi.responses import StreamingResponse
from pydantic import BaseModel

import roost

CHUNK = b"x" * 64 * 1024


class Input(BaseModel):
    prompt: str = ""


class Streams(roost.App):
    min_concurrency = 1
    max_concurrency = 1
    max_multiplexing = 400

    def setup(self):
        self.taken = []

    @roost.endpoint("/")
    async def echo(self, input: Input) -> dict:
        return {"text": input.prompt}

    @roost.endpoint("/stream")
    async def stream(self, input: Input) -> StreamingResponse:
        number = len(self.taken)
        self.taken.append(0)

        async def chunks():
            for _ in range(1000):
                yield CHUNK
                self.taken[number] += len(CHUNK)

        return StreamingResponse(chunks(), media_type="application/octet-stream")

    @roost.endpoint("/taken")
    async def how_much(self) -> dict:
        return {"bytes": self.taken}
