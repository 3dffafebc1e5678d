"""Runners forked from templates, where there is one that lives; else as fresh processes. A fork that comes to nothing costs a moment.

Which templates should live is decided elsewhere (core/templates.py, engines/templates.py). This makes them, keeps the connections to
them, and forks. Templates end with the server that made them; runners do not care: a fork is the supervisor's child like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from roost.backends.base import Launch
from roost.backends.process import ProcessBackend
from roost.core.model import Revision
from roost.kit import log
from roost.kit.spawn import Exited, Spawner
from roost.wire import ids
from roost.wire.launch import TemplateTicket

_FORK_WITHIN_S = 2.0
"""The template does not fork after that; the server waits a little longer, for an answer that is on its way."""
_ANSWER_WAIT_S = 1.0
_ORDERS_AT_ONCE = 4
_C_CODE_EXTRA_S = 5.0
"""The template's own alarm comes first and can say where; what does not return to Python is killed from here."""
_GRACE_MS = 0


class Line(Protocol):
    """The connection to a template (link/templates.py)."""

    on_said: Callable[[dict[str, Any]], None]
    on_lost: Callable[[], None]

    def send(self, body: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


class Births(Protocol):
    """Where the stages of starts are noted (demand/births.py)."""

    def asked(self, runner_id: str, how: str, why_spawned: str = "") -> None: ...
    def started(self, runner_id: str) -> None: ...


class Unfit(Exception):
    """This template cannot be forked; the message is for the author."""


@dataclass(frozen=True, slots=True)
class BaseOf:
    """What a base template is made for."""

    env_key: str
    runtime: str

    @property
    def name(self) -> str:
        return f"{self.env_key}:{self.runtime}"


@dataclass(slots=True)
class _Template:
    id: str
    name: str
    token: str
    came: asyncio.Future[None]
    """Done when it may be forked; Unfit or OSError when it never will."""
    pid: int = 0
    spare_pid: int = 0
    """Of a fork that waits for its order; 0 if there is none now."""
    line: Line | None = None
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_ORDERS_AT_ONCE))
    """Taken for an order: it forks one after another, and the time of an order must not run while it waits for others."""
    orders: dict[int, asyncio.Future[int]] = field(default_factory=dict[int, "asyncio.Future[int]"])

    @property
    def usable(self) -> bool:
        return self.line is not None and self.came.done() and not self.came.cancelled() and self.came.exception() is None


class TemplateBackend:
    """A `backends.base.Backend` around another. Names of templates: a revision's id, or a base's name."""

    def __init__(
        self,
        spawner: Spawner,
        fresh: ProcessBackend,
        births: Births,
        environment_of: Callable[[Revision], dict[str, str]],
        import_limit_s: float = 60,
    ) -> None:
        """`environment_of(revision)`: what its code may read at import, without secrets and what is one runner's own."""
        self._spawner = spawner
        self._fresh = fresh
        self._births = births
        self._environment_of = environment_of
        self._import_limit_s = import_limit_s
        self._by_id: dict[str, _Template] = {}
        self._by_name: dict[str, _Template] = {}
        self._numbers = itertools.count(1)
        self._forks: set[asyncio.Task[int]] = set()
        self._kills: set[asyncio.Task[None]] = set()
        self._leaving = False
        self.on_start: Callable[[str, str], None] = lambda revision_id, how: None
        """Told of each start: "fork" or "spawn"."""
        self.on_loss: Callable[[str, str], None] = lambda name, reason: None
        """Told of each template that ended although nobody had asked for it."""
        spawner.subscribe("template", self._exited)

    # Backend

    async def start(self, launch: Launch) -> int | None:
        """Fork it if there is a template, else, or if that fails, start it afresh."""
        template = self._by_name.get(launch.revision.id)
        why_spawned = ""
        if template is not None and template.usable:
            self._births.asked(launch.runner_id, "fork")
            try:
                pid = await self._fork_runner(template, launch)
            except OSError as error:
                why_spawned = str(error)
                log.warning("template.fork_failed", runner=launch.runner_id, revision=launch.revision.id, reason=why_spawned)
            else:
                self._births.started(launch.runner_id)
                self.on_start(launch.revision.id, "fork")
                return pid
        self._births.asked(launch.runner_id, "spawn", why_spawned)
        pid = await self._fresh.start(launch)
        self._births.started(launch.runner_id)
        self.on_start(launch.revision.id, "spawn")
        return pid

    async def stop(self, runner_id: str, grace_ms: int) -> None:
        await self._fresh.stop(runner_id, grace_ms)

    async def kill(self, runner_id: str) -> None:
        await self._fresh.kill(runner_id)

    async def living(self) -> dict[str, int]:
        return await self._fresh.living()

    async def stopped(self) -> frozenset[str]:
        return await self._fresh.stopped()

    def subscribe(self, on_exit: Callable[[Exited], None]) -> None:
        self._fresh.subscribe(on_exit)

    # templates

    def pids(self) -> dict[str, tuple[int, ...]]:
        """The living templates that can be forked, by name: their own processes, and forks that wait for an order."""
        return {
            name: (template.pid, template.spare_pid) if template.spare_pid else (template.pid,)
            for name, template in self._by_name.items()
            if template.usable
        }

    def has_templates(self, base: BaseOf) -> bool:
        """Whether runners of this runtime know how to be forked at all."""
        return (self._fresh.places.runtime_of(base.runtime) / "roost" / "runner" / "template.py").exists()

    async def make_base(self, base: BaseOf) -> None:
        """Start the template of an environment. Raises Unfit with the reason why it cannot be one."""
        if not self.has_templates(base):
            raise Unfit(f"roost {base.runtime}, which the app was deployed with, has no templates")
        template = self._new(base.name)
        ticket = self._ticket(template)
        with self._failing(template):
            spawn = self._fresh.template_spawn(template.id, base.env_key, base.runtime, ticket.to_json())
            template.pid = await self._spawner.start(spawn)
            await self._come(template)

    async def make_template(self, revision: Revision, base: BaseOf) -> None:
        """Fork a revision's template from its base. Raises Unfit with the reason why it cannot be one, OSError if the base cannot fork."""
        parent = self._by_name.get(base.name)
        if parent is None or not parent.usable:
            raise OSError("its base template is gone")
        template = self._new(revision.id)
        ticket = self._ticket(template, revision)
        with self._failing(template):
            template.pid = await self._order(parent, json.loads(ticket.to_json()), self._fresh.output_of(template.id))
            await self._spawner.adopt(template.id, "template", template.pid, _GRACE_MS)
            await self._come(template)

    async def end(self, name: str) -> None:
        """Runners that were forked from it live on."""
        if (template := self._by_name.get(name)) is not None:
            self._forget(template, "it was ended")
            await self._spawner.kill(template.id)

    async def settle(self) -> None:
        """Wait for forks under way: one that nobody adopted would be nobody's. Call before the server hands over; from then on its templates
        go, which is no loss."""
        self._leaving = True
        if self._forks:
            await asyncio.wait(list(self._forks))

    # the link

    def admit(self, template_id: str, token: str) -> str:
        """Why this template may not come in; "" if it may."""
        template = self._by_id.get(template_id)
        if template is None or template.line is not None:
            return "this server waits for no such template"
        return "" if hmac.compare_digest(template.token, token) else "the launch token is wrong"

    def connected(self, template_id: str, line: Line) -> None:
        template = self._by_id.get(template_id)
        if template is None:
            line.close()
            return
        template.line = line
        line.on_said = lambda body: self._said(template, body)
        line.on_lost = lambda: self._lost(template, "its connection broke")

    def _said(self, template: _Template, body: dict[str, Any]) -> None:
        match body:
            case {"op": "ready"} if not template.came.done():
                template.came.set_result(None)
            case {"op": "refused", "reason": str(reason)} if not template.came.done():
                template.came.set_exception(Unfit(reason))
            case {"op": "spare", "pid": int(pid)}:
                template.spare_pid = pid
            case {"op": "forked", "id": int(number), "pid": int(pid)} if (order := template.orders.get(number)) and not order.done():
                template.spare_pid = 0
                order.set_result(pid)
            case {"op": "not_forked", "id": int(number), "error": str(error)} if (
                order := template.orders.get(number)
            ) and not order.done():
                order.set_exception(OSError(error))
            case _:
                log.debug("template.said", template=template.name, said=str(body)[:200])

    # forks

    async def _fork_runner(self, template: _Template, launch: Launch) -> int:
        """Raises OSError. Not to be stopped half-way: a fork that nobody adopts is nobody's."""
        task = asyncio.get_running_loop().create_task(self._fork_and_adopt(template, launch))
        self._forks.add(task)
        task.add_done_callback(self._forks.discard)
        return await asyncio.shield(task)

    async def _fork_and_adopt(self, template: _Template, launch: Launch) -> int:
        ticket = json.loads(self._fresh.ticket_of(launch).to_json())
        pid = await self._order(template, ticket, self._fresh.output_of(launch.runner_id))
        await self._spawner.adopt(launch.runner_id, "runner", pid, launch.grace_ms, self._fresh.limits_of(launch))
        return pid

    async def _order(self, template: _Template, ticket: dict[str, Any], output: str) -> int:
        """Have it fork; answers the pid. Raises OSError."""
        async with template.turns:
            return await self._order_now(template, ticket, output)

    async def _order_now(self, template: _Template, ticket: dict[str, Any], output: str) -> int:
        if template.line is None or self._by_id.get(template.id) is not template:
            raise OSError("the template went away while others were forked")
        number = next(self._numbers)
        order = template.orders[number] = asyncio.get_running_loop().create_future()
        until_ms = time.monotonic() * 1000 + _FORK_WITHIN_S * 1000
        template.line.send({"op": "fork", "id": number, "ticket": ticket, "output": output, "until_ms": until_ms})
        try:
            return await asyncio.wait_for(order, _FORK_WITHIN_S + _ANSWER_WAIT_S)
        except (asyncio.TimeoutError, TimeoutError):
            reason = f"the template did not answer within {_FORK_WITHIN_S + _ANSWER_WAIT_S:g} s"
            self._lost(template, reason)
            await self._spawner.kill(template.id)
            raise OSError(reason) from None
        finally:
            template.orders.pop(number, None)

    # small things

    def _new(self, name: str) -> _Template:
        template = _Template(f"template-{ids.runner_id()}", name, ids.secret(), asyncio.get_running_loop().create_future())
        # A failure that nobody waits for any more must not be reported as forgotten.
        template.came.add_done_callback(lambda came: None if came.cancelled() else came.exception())
        self._by_id[template.id] = self._by_name[name] = template
        return template

    def _ticket(self, template: _Template, revision: Revision | None = None) -> TemplateTicket:
        limit_ms = int(self._import_limit_s * 1000)
        links = self._fresh.places.links
        if revision is None:
            return TemplateTicket(template.id, template.token, links, limit_ms)
        bundle = str(self._fresh.places.bundles / revision.bundle)
        return TemplateTicket(template.id, template.token, links, limit_ms, bundle, revision.working_dir, self._environment_of(revision))

    async def _come(self, template: _Template) -> None:
        limit_s = self._import_limit_s + _C_CODE_EXTRA_S
        try:
            await asyncio.wait_for(asyncio.shield(template.came), limit_s)
        except (asyncio.TimeoutError, TimeoutError):
            raise Unfit(f"it was not ready within {limit_s:g} s, and did not say what it was doing") from None

    @contextlib.contextmanager
    def _failing(self, template: _Template) -> Iterator[None]:
        """A template that does not come up is ended and forgotten."""
        try:
            yield
        except BaseException:
            self._forget(template, "it did not come up")
            self._kill_soon(template.id)
            raise

    def _kill_soon(self, template_id: str) -> None:
        task = asyncio.get_running_loop().create_task(self._kill(template_id))
        self._kills.add(task)
        task.add_done_callback(self._kills.discard)

    async def _kill(self, template_id: str) -> None:
        with contextlib.suppress(OSError):
            await self._spawner.kill(template_id)

    def _exited(self, exited: Exited) -> None:
        if (template := self._by_id.get(exited.name)) is not None:
            how = f"signal {exited.signal}" if exited.signal is not None else f"exit code {exited.code}"
            self._lost(template, f"its process ended ({how})")

    def _lost(self, template: _Template, reason: str) -> None:
        if self._by_id.get(template.id) is not template:
            return
        was_usable = template.usable
        self._forget(template, reason)
        if was_usable and not self._leaving:
            log.warning("template.lost", template=template.name, reason=reason)
            self.on_loss(template.name, reason)

    def _forget(self, template: _Template, reason: str) -> None:
        self._by_id.pop(template.id, None)
        if self._by_name.get(template.name) is template:
            del self._by_name[template.name]
        if not template.came.done():
            template.came.set_exception(Unfit(f"the template's process went away: {reason}"))
        for order in template.orders.values():
            if not order.done():
                order.set_exception(OSError(f"the template went away: {reason}"))
        if template.line is not None:
            template.line.on_lost = lambda: None
            template.line.close()
