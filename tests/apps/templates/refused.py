"""Apps whose templates are refused, one for each reason. All of them serve: their runners start afresh."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import types

import roost


def in_template() -> bool:
    return os.environ.get("ROOST_RUNNER_STATE") == "TEMPLATE"


class Serves(roost.App):
    app_name = "serves"
    keep_alive = 300

    @roost.endpoint("/")
    async def pid(self) -> dict:
        return {"pid": os.getpid()}


class Thread(Serves):
    app_name = "thread"

    def preload(self):
        threading.Thread(target=self.beat, name="heart", daemon=True).start()

    def beat(self):
        while True:
            time.sleep(1)


class Cuda(Serves):
    app_name = "cuda"

    def preload(self):
        sys.modules["torch"] = types.SimpleNamespace(cuda=types.SimpleNamespace(is_initialized=lambda: True))


class Socket(Serves):
    app_name = "socket"

    def preload(self):
        self.left = socket.socket()


class EventLoop(Serves):
    app_name = "event-loop"

    def preload(self):
        self.loop = asyncio.new_event_loop()


class Process(Serves):
    app_name = "process"

    def preload(self):
        if in_template():
            self.child = subprocess.Popen(["sleep", "600"])


class Hangs(Serves):
    app_name = "hangs"

    def preload(self):
        if in_template():
            time.sleep(600)


class Raises(Serves):
    app_name = "raises"

    def preload(self):
        if in_template():
            raise LookupError("no weights here")


class Unloadable:
    """Unpickles in a runner, and nowhere else."""

    def __reduce__(self):
        return eval, ("{}['not here'] if __import__('os').environ.get('ROOST_RUNNER_STATE') == 'TEMPLATE' else 1",)


UNLOADABLE = Unloadable()


class Unpickling(Serves):
    app_name = "unpickling"

    @roost.endpoint("/value")
    async def value(self) -> dict:
        return {"value": UNLOADABLE}


class ForkDies(Serves):
    app_name = "fork-dies"

    def preload(self):
        os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGSEGV))


class ForkHangs(Serves):
    app_name = "fork-hangs"

    def preload(self):
        os.register_at_fork(after_in_child=lambda: time.sleep(600))
