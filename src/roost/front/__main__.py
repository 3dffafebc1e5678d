"""The process `front`, started and kept by the supervisor: the CONNECT door, on sockets that it is lent.

ROOST_CONNECT_FDS: the listening sockets. ROOST_ADDRESS: where the server listens, the first of which is dialled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys

from roost.front.connect import Door
from roost.front.destination import dialled
from roost.kit import log


def main() -> int:
    """Serve until SIGTERM; answers the exit code."""
    _allow_many_files()
    asyncio.run(_serve())
    return 0


async def _serve() -> None:
    told_to_end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_end.set)
    door = Door(dialled(os.environ["ROOST_ADDRESS"].split(",")[0]))
    await door.listen([_socket(int(number)) for number in os.environ["ROOST_CONNECT_FDS"].split(",")])
    log.debug("front.serving", server=door.server, pid=os.getpid())
    await told_to_end.wait()
    door.close()


def _socket(number: int) -> socket.socket:
    lent = socket.socket(fileno=number)
    lent.setblocking(False)
    lent.set_inheritable(False)
    return lent


def _allow_many_files() -> None:
    """A tunnel is two descriptors; the usual soft limit of 1,024 would end them at half of what the door promises."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
