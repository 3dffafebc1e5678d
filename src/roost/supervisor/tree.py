"""The supervisor's loop: one thread that waits for servers' messages, ended processes, signals and deadlines, and answers them.

What to do about servers is decided in `succession`; processes are kept by `children`. This file connects the two.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import selectors
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any, Final

from roost.kit import cgroups, log
from roost.kit.launch import Inherited
from roost.kit.spawn import Exited, Limits, Spawn
from roost.supervisor import succession
from roost.supervisor.channel import Channel, ChannelBroken
from roost.supervisor.children import OURS, Child, Children, kill_every_child
from roost.supervisor.front import KIND as FRONT
from roost.supervisor.front import Front
from roost.supervisor.options import Options
from roost.supervisor.problem import CannotStart
from roost.supervisor.sockets import Sockets
from roost.supervisor.succession import End, EndBuilds, GiveUp, Go, HandOver, Order, RestartFailed, Start, Step, Succession

PARENT_ENDED: Final = signal.SIGUSR1
"""Comes from the kernel when the guard has ended (see guard.py): nothing may be left of us either."""
WATCHED: Final = (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, PARENT_ENDED)
ENDS_WITH_SERVER: Final = ("build", "template", "replay")
SWEEP_EVERY_MS: Final = 5_000
LOOK_AGAIN_MS: Final = 20
LAST_KILL_LIMIT_MS: Final = 10_000
WITHOUT_CHANNEL_MS: Final = 5_000
"""A server that let go of its channel can do no more than end."""


@dataclass(slots=True)
class Stopping:
    """The way down: servers first, then runners and the front, whose tunnels may carry the last calls."""

    servers_until_ms: int
    runners_told: bool = False


class Tree:
    """Runs servers and what they ask for until it is told to stop. `run` answers the exit code."""

    def __init__(self, options: Options, sockets: Sockets) -> None:
        self._options = options
        self._sockets = sockets
        # Before anything is started: under version 2 the group is divided as long as only we are in it.
        self._children = Children(cgroups.find({os.getpid(), os.getppid()}))
        log.info("supervisor.limits", **dataclasses.asdict(self._children.limits.how))
        self._front = Front(options, sockets, self._children)
        self._channels: dict[int, Channel] = {}
        self._untold: list[Exited] = []
        """Exits that no server has acknowledged yet."""
        self._selector = selectors.DefaultSelector()
        self._state = Succession(options.limits)
        self._stopping: Stopping | None = None
        self._exit_code: int | None = None
        self._problem = ""
        self._next_sweep_ms = 0

    def run(self) -> int:
        """Raises CannotStart if no server could be brought to serve. Leaves no process behind, whichever way it ends."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        _watch_signals(theirs)
        self._selector.register(ours, selectors.EVENT_READ, ours)
        try:
            self._step(succession.begin(self._options.limits, _now_ms()))
            while self._exit_code is None:
                self._turn()
        finally:
            self._end_at_once()
            signal.set_wakeup_fd(-1)
            self._selector.close()
            ours.close()
            theirs.close()
        if self._problem:
            raise CannotStart(self._problem)
        return self._exit_code

    # One turn of the loop

    def _turn(self) -> None:
        for key, events in self._selector.select(self._wait_s()):
            if isinstance(key.data, int):
                self._on_channel(key.data, events)
            else:
                self._on_signals(key.data)
        now_ms = _now_ms()
        self._children.kill_overdue(now_ms)
        self._children.end_whoever_is_over(now_ms)
        if now_ms >= self._next_sweep_ms:
            self._children.sweep()
            self._next_sweep_ms = now_ms + SWEEP_EVERY_MS
        if self._stopping is None:
            self._front.tick(now_ms)
            self._step(succession.tick(self._state, now_ms))
        else:
            self._go_on_stopping(self._stopping, now_ms)

    def _wait_s(self) -> float:
        now_ms = _now_ms()
        times = [self._next_sweep_ms, self._children.next_deadline_ms(), self._children.limits.next_look_ms()]
        if self._children.looking_again:
            times.append(now_ms + LOOK_AGAIN_MS)
            self._next_sweep_ms = min(self._next_sweep_ms, now_ms + LOOK_AGAIN_MS)
        if self._stopping is None:
            times += [succession.deadline_ms(self._state), self._front.due_ms]
        else:
            times.append(self._stopping.servers_until_ms)
        return max(0, min(time for time in times if time is not None) - now_ms) / 1000

    # Signals

    def _on_signals(self, wakeup: socket.socket) -> None:
        arrived: list[int] = []
        with contextlib.suppress(BlockingIOError):
            while data := wakeup.recv(4096):
                arrived += data
        if signal.SIGCHLD in arrived:
            self._on_ends()
        for number in arrived:
            match number:
                case signal.SIGHUP:
                    self._restart("SIGHUP")
                case signal.SIGINT if self._stopping is not None:
                    self._exit_code = 130
                case signal.SIGINT | signal.SIGTERM:
                    self._stop(signal.Signals(number).name)
                case number if number == PARENT_ENDED:
                    self._exit_code = 1
                case _:
                    pass

    # Servers

    def _step(self, step: Step) -> None:
        self._state, orders = step
        for order in orders:
            self._obey(order)

    def _obey(self, order: Order) -> None:
        match order:
            case Start(number):
                self._start_server(number)
            case Go(number):
                log.info("server.go", number=number)
                self._tell(number, {"event": "go"})
                for exited in self._untold:
                    self._tell(number, {"event": "exited", **dataclasses.asdict(exited)})
            case HandOver(number):
                self._tell(number, {"event": "handover"})
            case End(number, grace_ms, why):
                log.warning("server.ended_by_us", number=number, why=why)
                self._end_server(number, grace_ms)
            case EndBuilds(number):
                for child in self._children:
                    if child.kind in ENDS_WITH_SERVER and child.server == number:
                        self._children.kill(child)
            case RestartFailed(number, why):
                log.error("server.restart_failed", still_serving=number, why=why)
                self._tell(number, {"event": "restart_failed", "reason": why})
            case GiveUp(why):
                self._problem, self._exit_code = why, 1

    def _start_server(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        fds = tuple(one.fileno() for one in (*self._sockets.listening, self._sockets.link, theirs))
        # In the state folder: `python -m` imports from where it starts, and that must not be whatever folder `roost up` was typed in.
        cwd = os.fspath(self._options.home)
        spawn = Spawn(f"server-{number}", "server", self._options.server, self._server_environment(theirs.fileno()), cwd)
        try:
            child = self._children.start(spawn, number, Inherited(fds, stdout=1, stderr=2))
        except OSError as error:
            ours.close()
            self._problem, self._exit_code = str(error), 1
            return
        finally:
            theirs.close()
        log.info("server.started", number=number, pid=child.pid)
        self._channels[number] = Channel(ours)
        self._selector.register(ours, selectors.EVENT_READ, number)

    def _server_environment(self, channel: int) -> dict[str, str]:
        return {
            **os.environ,
            "ROOST_HOME": os.fspath(self._options.home),
            "ROOST_SUPERVISOR_FD": str(channel),
            "ROOST_LISTEN_FDS": ",".join(str(one.fileno()) for one in self._sockets.listening),
            "ROOST_LINK_FD": str(self._sockets.link.fileno()),
            "ROOST_LINK_PATH": os.fspath(self._sockets.link_path),
            "ROOST_ADDRESS": ",".join(self._sockets.addresses),
            "ROOST_CONNECT": self._sockets.connect_address,
        }

    def _end_server(self, number: int, grace_ms: int) -> None:
        if (child := self._children.named(f"server-{number}")) is None:
            return
        if grace_ms > 0:
            self._children.stop(child, grace_ms, _now_ms())
        else:
            self._children.kill(child)

    def _restart(self, asked_by: str) -> None:
        if self._stopping is not None:
            return
        log.info("server.restart_asked", by=asked_by)
        self._step(succession.restart(self._state, _now_ms()))

    # Messages

    def _on_channel(self, number: int, events: int) -> None:
        channel = self._channels.get(number)
        if channel is None:
            return
        try:
            if events & selectors.EVENT_WRITE:
                channel.flush()
            if events & selectors.EVENT_READ:
                for message in channel.receive():
                    self._on_message(number, message)
        except ChannelBroken as why:
            self._drop_channel(number, str(why))
        else:
            self._watch_channel(number)

    def _tell(self, number: int, message: dict[str, Any]) -> None:
        if (channel := self._channels.get(number)) is None:
            return
        try:
            channel.send(message)
        except ChannelBroken as why:
            self._drop_channel(number, str(why))
        else:
            self._watch_channel(number)

    def _watch_channel(self, number: int) -> None:
        if (channel := self._channels.get(number)) is not None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.has_unsent else 0)
            self._selector.modify(channel, events, number)

    def _drop_channel(self, number: int, why: str) -> None:
        if (channel := self._channels.pop(number, None)) is None:
            return
        self._selector.unregister(channel)
        channel.close()
        server = self._children.named(f"server-{number}")
        leaving = any(leaving.number == number for leaving in self._state.leaving)
        # A server that has handed over needs us no more. Any other is deaf without it: mostly it is exiting, and must not be
        # disturbed in that; but one that stays would keep the place of a server that works.
        if server is not None and not leaving and self._stopping is None:
            log.debug("server.channel_lost", number=number, why=why)
            self._children.kill_later(server, _now_ms() + WITHOUT_CHANNEL_MS)

    def _on_message(self, number: int, message: dict[str, Any]) -> None:
        now_ms = _now_ms()
        match message:
            case {"op": "start", "id": int(asked)}:
                self._tell(number, {"id": asked, **self._start(number, message)})
            case {"op": "adopt", "id": int(asked), "name": str(name), "kind": str(kind), "pid": int(pid), "grace_ms": int(grace_ms)}:
                self._adopt(number, asked, Child(name, kind, pid, number, grace_ms), _limits(message))
            case {"op": "stop", "name": str(name), "grace_ms": int(grace_ms)}:
                if (child := self._asked_for(name)) is not None:
                    self._children.stop(child, grace_ms, now_ms)
            case {"op": "kill", "name": str(name)}:
                if (child := self._asked_for(name)) is not None:
                    self._children.kill(child)
            case {"op": "living", "id": int(asked)}:
                self._tell(number, {"id": asked, "living": [dataclasses.asdict(living) for living in self._children.living()]})
            case {"op": "enforcement", "id": int(asked)}:
                self._tell(number, {"id": asked, "enforcement": dataclasses.asdict(self._children.limits.how)})
            case {"op": "ended_ok", "names": list(names)}:
                self._untold = [exited for exited in self._untold if exited.name not in names]
            case {"op": "restart"}:
                self._restart(f"server-{number}")
            case {"op": "loaded"} if self._stopping is None:
                self._step(succession.loaded(self._state, number, now_ms))
            case {"op": "serving"}:
                log.info("server.serving", number=number)
                self._step(succession.serving(self._state, number, now_ms))
            case {"op": "handed_over"} if self._stopping is None:
                log.info("server.handed_over", number=number)
                self._step(succession.handed_over(self._state, number, now_ms))
            case {"op": "loaded" | "handed_over"}:
                pass
            case _:
                log.warning("supervisor.unknown_message", server=number, message=str(message)[:200])
                if isinstance(asked := message.get("id"), int):
                    self._tell(number, {"id": asked, "error": f"the supervisor does not know {message.get('op')!r}"})

    def _start(self, number: int, message: dict[str, Any]) -> dict[str, Any]:
        if self._stopping is not None:
            return {"error": "cannot start anything: the server is shutting down"}
        try:
            return {"pid": self._children.start(_spawn(message), number).pid}
        except (OSError, TypeError, ValueError) as error:
            return {"error": str(error)}

    def _adopt(self, number: int, asked: int, child: Child, limits: Limits) -> None:
        # Also while everything is shut down: a child that nobody watches would be ended without its grace.
        try:
            ended = self._children.adopt(child, limits)
        except OSError as error:
            self._tell(number, {"id": asked, "error": str(error)})
            return
        self._tell(number, {"id": asked, "pid": child.pid})
        if ended is not None:
            self._on_exit(ended.child, ended.exited)
        elif self._stopping is not None and self._stopping.runners_told:
            self._children.stop(child, min(child.grace_ms, self._options.runner_grace_ms), _now_ms())

    def _asked_for(self, name: str) -> Child | None:
        child = self._children.named(name)
        return child if child is not None and child.kind not in OURS else None

    # Ends

    def _on_ends(self) -> None:
        for ended in self._children.reap():
            if ended.child.kind == "server":
                self._on_server_end(ended.child.server, ended.exited)
            elif ended.child.kind == FRONT:
                self._front.ended(ended.exited, _now_ms())
            else:
                self._on_exit(ended.child, ended.exited)

    def _on_exit(self, child: Child, exited: Exited) -> None:
        log.debug("process.exited", name=exited.name, pid=exited.pid, code=exited.code, signal=exited.signal)
        if child.kind in ENDS_WITH_SERVER:
            # Only whoever asked for it waits for it.
            self._tell(child.server, {"event": "exited", **dataclasses.asdict(exited)})
            return
        self._untold.append(exited)
        if self._state.current is not None:
            self._tell(self._state.current.number, {"event": "exited", **dataclasses.asdict(exited)})

    def _on_server_end(self, number: int, exited: Exited) -> None:
        # Its last words may still lie in the channel: a hand-over followed by a quick end is not a crash.
        if (channel := self._channels.get(number)) is not None:
            for message in channel.last_words():
                self._on_message(number, message)
            self._drop_channel(number, "the server ended")
        how = {"code": exited.code} if exited.signal is None else {"signal": exited.signal, "oom_killed": exited.oom_killed}
        log.info("server.exited", number=number, pid=exited.pid, **how)
        if self._stopping is None:
            self._step(succession.ended(self._state, number, exited.code, _now_ms()))

    # The way down

    def _stop(self, why: str) -> None:
        if self._stopping is not None:
            return
        grace_ms = self._options.grace_ms
        log.info("supervisor.stopping", why=why, grace_s=grace_ms / 1000, hint="Ctrl-C again ends everything at once")
        self._stopping = Stopping(servers_until_ms=_now_ms() + grace_ms)
        coming = self._state.coming
        for number in list(self._channels):
            if coming is not None and number == coming.number:
                # It serves nobody yet, so that there is nothing to wait for.
                self._end_server(number, 0)
            else:
                self._tell(number, {"event": "shutdown", "grace_ms": grace_ms})

    def _go_on_stopping(self, stopping: Stopping, now_ms: int) -> None:
        servers = [child for child in self._children if child.kind == "server"]
        if servers and now_ms >= stopping.servers_until_ms:
            for server in servers:
                log.warning("server.ended_by_us", number=server.server, why=f"still there after {self._options.grace_ms / 1000:g} s")
                self._children.kill(server)
            stopping.servers_until_ms = now_ms + SWEEP_EVERY_MS
        if servers:
            return
        others = list(self._children)
        if not stopping.runners_told:
            stopping.runners_told = True
            for child in others:
                self._children.stop(child, min(child.grace_ms, self._options.runner_grace_ms), now_ms)
            stopping.servers_until_ms = now_ms + SWEEP_EVERY_MS
        if not others:
            self._exit_code = 0

    def _end_at_once(self) -> None:
        for child in self._children:
            self._children.kill(child)
        kill_every_child(frozenset(), LAST_KILL_LIMIT_MS)
        for channel in self._channels.values():
            channel.close()


def _watch_signals(wakeup: socket.socket) -> None:
    for number in WATCHED:
        # The handler does nothing: that there is one makes Python write the signal's number to the wake-up socket.
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    # The guard forked us with some of them blocked, so that those that came early wait for us now.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)


def _spawn(message: dict[str, Any]) -> Spawn:
    known = {field.name for field in dataclasses.fields(Spawn)}
    fields = {name: value for name, value in message.items() if name in known}
    spawn = Spawn(**{**fields, "argv": tuple(fields.get("argv", ())), "limits": _limits(message)})
    if spawn.kind in OURS or not spawn.name:
        raise ValueError(f"cannot start {spawn.name!r} of kind {spawn.kind!r}: it needs a name, and {' and '.join(OURS)} are ours to start")
    return spawn


def _limits(message: dict[str, Any]) -> Limits:
    """What a message says of limits; none from a server that is older than they are."""
    told = message.get("limits") or {}
    return Limits(int(told.get("memory_mb", 0)), float(told.get("cpus", 0)))


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
