"""For `roost run`: prints, waits, fails, and takes its time to set up if its author's environment said so."""

import asyncio
import os
import time

from pydantic import BaseModel

import roost

SETUP_S = float(os.environ.get("LIVE_SETUP_S", "0"))
MARK = "one"


class Input(BaseModel):
    name: str = "world"
    wait_s: float = 0


class Live(roost.App):
    max_multiplexing = 50

    def setup(self):
        print("setting up", MARK)
        time.sleep(SETUP_S)

    @roost.endpoint("/")
    async def go(self, input: Input) -> dict:
        print("begin", input.name)
        await asyncio.sleep(input.wait_s)
        if input.name == "boom":
            raise RuntimeError("boom of mine")
        print("end", input.name)
        return {"mark": MARK, "pid": os.getpid()}
