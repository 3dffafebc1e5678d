"""`python kept_runner.py SOCKET`: a runner process whose one endpoint takes half a second, without a bundle and without a template."""

from __future__ import annotations

import asyncio
import os
import sys

import roost
from roost.runner.host import Host
from roost.runner.load import Loaded
from roost.runner.logs import Output
from roost.sdk.app import create
from roost.wire.launch import Ticket
from roost.wire.spec import AppSpec


class Slow(roost.App):
    @roost.endpoint("/")
    async def slow(self) -> str:
        await asyncio.sleep(0.5)
        return "slow"


if __name__ == "__main__":
    ticket = Ticket("r", "t", (f"unix:{sys.argv[1]}",), "", AppSpec("slow", "Slow", "3.11", max_multiplexing=2), "me/slow", "rev")
    os._exit(Host(ticket, Output(), "test", Loaded(create(Slow))).run())
