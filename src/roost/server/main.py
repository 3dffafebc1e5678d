"""A server process from its start by the supervisor to its end: by hand-over, by shutdown, or by a crash that leaves it all to the next."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import socket
import sys
from pathlib import Path

import uvloop

from roost.front.tls import Tls
from roost.gateway.forward import Successor
from roost.kit import log
from roost.kit.clock import SystemClock
from roost.server import certificates, identity, settings
from roost.server.api import build
from roost.server.machine import gpus_for_runners, in_known_places
from roost.server.paths import Paths
from roost.server.settings import Settings
from roost.server.supervised import SupervisedSpawner
from roost.server.wiring import Addresses, Server
from roost.store import Store
from roost.wire.errors import RoostError

EXIT_UNUSABLE = 78
"""The state or the settings cannot be used; starting again would end the same (sysexits: EX_CONFIG)."""
_IDLE_AFTER_HANDOVER_S = 20.0
_LARGE_BLOCK = 512 * 1024


def main() -> int:
    """Run one server process; answers its exit code."""
    home = Path(os.environ["ROOST_HOME"])
    _allow_many_files()
    _keep_large_blocks()
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(_run(home))
    except RoostError as error:
        sys.stderr.write(f"roost: {error.detail}\n" + (f"  {error.hint}\n" if error.hint else ""))
        return EXIT_UNUSABLE
    finally:
        loop.close()


async def _run(home: Path) -> int:
    spawner = await SupervisedSpawner.from_environ()
    chosen = settings.load(home)
    paths = Paths(home)
    paths.make()
    # Before "loaded": a certificate that cannot be used ends a planned restart before the server that serves has let go.
    tls = certificates.tls(chosen, paths.tls, _listened(), bool(os.environ.get("ROOST_CONNECT")), SystemClock().now_ms)
    await spawner.loaded()
    if not await _either(spawner.go, spawner.shutdown):
        return 0
    server = await _assemble(spawner, paths, chosen, tls)
    await spawner.serving()
    _spare_the_collector()
    if await _either(spawner.handover, spawner.shutdown):
        await _hand_over(server, spawner)
    else:
        await _shut_down(server, spawner.shutdown_grace_ms / 1000)
    await spawner.close()
    return 0


def _allow_many_files() -> None:
    """Each caller that waits holds a descriptor; the usual soft limit of 1,024 would refuse the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _spare_the_collector() -> None:
    """What is there now stays: modules, routes, engines. Looking at it again for every few hundred calls would cost a sixth of each call."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _either(first: asyncio.Event, second: asyncio.Event) -> bool:
    """Wait for one of two; whether it was the first."""
    tasks = [asyncio.ensure_future(event.wait()) for event in (first, second)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    return first.is_set()


def _keep_large_blocks() -> None:
    """glibc asks the kernel for blocks of more than 128 KB anew each time, until one of them was freed in one piece: then it keeps such blocks.
    TLS reads into one of 256 KB and frees what is left of it, so that each call would cost three system calls, more than all else in it.
    """
    bytes(_LARGE_BLOCK)


async def _assemble(spawner: SupervisedSpawner, paths: Paths, chosen: Settings, tls: Tls | None) -> Server:
    reachable = _reachable(_listened()[0])
    public = chosen.public_url.rstrip("/") or f"http://{reachable}"
    # Behind a proxy with a certificate of a public name callers need to trust nothing else.
    https = public if public.startswith("https:") else f"https://{reachable}" if tls is not None else ""
    bundle = str(tls.bundle) if tls is not None and tls.bundle is not None else ""
    clock = SystemClock()
    store = await Store.open(paths.database, clock)
    secret = identity.pepper(paths.state)
    owner, first = await identity.establish(store, paths.home, chosen.owner, secret, public, clock.now_ms())
    owned = any(runner.gpus for runner in await store.runners.living())
    server = Server(
        store=store,
        clock=clock,
        spawner=spawner,
        backend=None,
        paths=paths,
        settings=chosen,
        addresses=Addresses(
            public=public,
            link=f"unix:{os.environ['ROOST_LINK_PATH']}",
            https=https,
            connect=os.environ.get("ROOST_CONNECT", ""),
            http=f"http://{reachable}",
            bundle=bundle,
        ),
        pepper=secret,
        owner=owner,
        tls=tls,
        gpus=await in_known_places(gpus_for_runners(chosen.gpus), store.meta, owned),
    )
    await server.start(
        build(server, lambda: _restart(spawner), spawner.enforcement), _sockets("ROOST_LISTEN_FDS"), _sockets("ROOST_LINK_FD")
    )
    log.info("server.serving", address=public, owner=owner, pid=os.getpid())
    if first is not None:
        _welcome(first, public, https)
    return server


async def _restart(spawner: SupervisedSpawner) -> None:
    """Ask for a planned restart; back when it has begun. Raises RoostError `conflict` when the supervisor gives it up."""
    refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    spawner.restart_failed = lambda reason: None if refused.done() else refused.set_result(reason)
    await spawner.request_restart()
    begun = asyncio.ensure_future(spawner.handover.wait())
    await asyncio.wait([begun, refused], return_when=asyncio.FIRST_COMPLETED)
    begun.cancel()
    if refused.done():
        raise RoostError(
            "conflict", f"the restart was given up, this server goes on: {refused.result()}", hint="The log of `roost up` says more."
        )


def _listened() -> list[str]:
    """What is listened on, as host:port."""
    return os.environ["ROOST_ADDRESS"].split(",")


def _sockets(variable: str) -> list[socket.socket]:
    found: list[socket.socket] = []
    for number in os.environ[variable].split(","):
        sock = socket.socket(fileno=int(number))
        sock.setblocking(False)
        sock.set_inheritable(False)
        found.append(sock)
    return found


def _reachable(address: str) -> str:
    """An address that one can dial, for one that is listened on."""
    host, _, port = address.rpartition(":")
    # Everywhere is a place to listen on, not one to dial; our sockets of IPv6 take no IPv4.
    everywhere = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "[::]": "[::1]"}
    return f"{everywhere.get(host, host)}:{port}"


def _welcome(first: identity.FirstStart, url: str, https: str) -> None:
    also = f", and with TLS at {https}" if https and https != url else ""
    sys.stdout.write(
        f"""
Roost is running at {url} for {first.owner}{also}.

  The key of this first start is in {first.config}, where `roost` finds it:
    {first.key}

  Next, in another terminal:
    roost deploy app.py        a permanent URL
    roost run app.py           a temporary one, while you edit
    roost demo                 three examples with real models
"""
    )
    sys.stdout.flush()


async def _hand_over(server: Server, spawner: SupervisedSpawner) -> None:
    """Let the next server take the store and the sockets; finish here what runners have accepted."""
    server.stop_accepting()
    successor = Successor(f"http://{_reachable(_listened()[0])}", server.seal)
    # From here on nothing asks the store: new requests and waiting callers go to the successor, who answers once it may go.
    server.hand_over_calls(successor)
    await server.stop_engines()
    await spawner.handed_over()
    server.redial()
    log.info("server.handed_over", in_flight=server.http.busy)
    shut_at = asyncio.get_running_loop().time() + _IDLE_AFTER_HANDOVER_S
    while server.http.busy or server.http.connections:
        await asyncio.sleep(0.1)
        if asyncio.get_running_loop().time() > shut_at:
            # Whoever kept a connection open and silent this long learns of it at its next request, as after any idle time-out.
            server.http.shut_idle()
    await server.close()
    await successor.close()
    log.info("server.left", pid=os.getpid())


async def _shut_down(server: Server, grace_s: float) -> None:
    server.stop_accepting()
    server.refuse_waiting()
    server.http.shut_idle()
    deadline = asyncio.get_running_loop().time() + grace_s
    while server.http.busy and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110  # uvicorn counts its calls and tells nobody
        await asyncio.sleep(0.05)
    await server.stop_engines()
    server.say_last()
    with contextlib.suppress(Exception):
        await server.close()
