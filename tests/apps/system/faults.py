"""An app that does to its runner what a test asks for. What must be seen from outside goes into files of the test's folder."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pydantic import BaseModel

import roost

DIES = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "os._exit": lambda: os._exit(0),
    "sys.exit": lambda: sys.exit(3),
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
}

# Leaves its session, its group and its parent, and writes its pid.
DAEMON = "import os, sys, time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\nopen(sys.argv[1], 'w').write(str(os.getpid()))\ntime.sleep(600)"


class Place(BaseModel):
    folder: str = ""
    name: str = ""


class Death(BaseModel):
    how: str


class Amount(BaseModel):
    seconds: float = 0
    megabytes: int = 0


def say(place: Place, word: str) -> None:
    with open(f"{place.folder}/{place.name}", "a") as seen:
        seen.write(f"{word}\n")


class Faults(roost.App):
    app_name = "faults"
    keep_alive = 300
    max_concurrency = 1
    max_multiplexing = 4
    termination_grace_period_seconds = 1

    @roost.endpoint("/pid")
    async def pid(self) -> dict:
        return {"pid": os.getpid()}

    @roost.endpoint("/gated")
    async def gated(self, input: Place) -> dict:
        """Says that it began, waits for the file `go`, says that it ended."""
        say(input, "began")
        while not os.path.exists(f"{input.folder}/go"):  # noqa: ASYNC110 - the test is another process
            await asyncio.sleep(0.02)
        say(input, "ended")
        return {"pid": os.getpid()}

    @roost.endpoint("/die")
    async def die(self, input: Death) -> dict:
        DIES[input.how]()
        return {}

    @roost.endpoint("/die-in-thread")
    def die_in_thread(self, input: Death) -> dict:
        DIES[input.how]()
        return {}

    @roost.endpoint("/block")
    async def block(self, input: Amount) -> dict:
        time.sleep(input.seconds)  # noqa: ASYNC251 - that is the fault
        return {}

    @roost.endpoint("/breed")
    def breed(self, input: Place) -> dict:
        """A child, one in a session of its own, and a daemon."""
        children = [subprocess.Popen(["sleep", "600"]), subprocess.Popen(["setsid", "sleep", "600"])]
        subprocess.run([sys.executable, "-c", DAEMON, f"{input.folder}/daemon"], check=True)
        while not (Path(input.folder, "daemon").exists() and Path(input.folder, "daemon").read_text()):
            time.sleep(0.01)
        return {"pids": [child.pid for child in children] + [int(Path(input.folder, "daemon").read_text())]}

    @roost.endpoint("/flood")
    def flood(self, input: Amount) -> dict:
        line = "x" * 9_980
        for number in range(input.megabytes * 100):
            print(number, line)
        print("the last line")
        return {}


class Impatient(Faults):
    app_name = "impatient"
    request_timeout = 2


class Moody(roost.App):
    """Its setup() does what a file says; without the file it is fine."""

    keep_alive = 300
    max_concurrency = 1
    startup_timeout = 3
    termination_grace_period_seconds = 1
    mood_file = os.environ.get("MOOD_FILE", "")

    def setup(self):
        mood = Path(self.mood_file).read_text() if os.path.exists(self.mood_file) else ""
        if mood == "raises":
            raise ValueError("the weights are gone")
        if mood == "hangs":
            time.sleep(600)
        if mood == "exits":
            os._exit(7)

    @roost.endpoint("/")
    def answer(self) -> dict:
        return {"pid": os.getpid()}
