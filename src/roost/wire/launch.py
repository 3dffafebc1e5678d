"""What a runner is born with and how it reports: the launch ticket (on stdin) and the bodies of the control connection.

The control connection carries CONTROL frames (frames.py) whose payload is one JSON object with an `op`:

runner -> server
    {"op": "state", "state": "SETUP"}                       the class is loaded, setup() begins
    {"op": "state", "state": "CHECK"}                       setup() ended, and its app declares a health check: it waits for "serve"
    {"op": "state", "state": "READY", "ms": {stage: ms}}    setup() ended, calls may be sent; how long load, preload and setup took
    {"op": "failed", "stage": "load"|"preload"|"setup"|"serve", "error": text, "traceback": text, "hint": text}
    {"op": "pong", "id": n}                                 the app's own event loop has answered the ping
    {"op": "health", "id": n, "status": code}               what the app answered to the question
    {"op": "health", "id": n, "status": 0, "detail": text}  it did not: "it " and this
    {"op": "stack", "id": n, "text": str}
runner -> server, on the newest call connection
    {"op": "held", "calls": n}                              so many slots are taken by calls of earlier servers still
server -> runner, on a call connection (link version 2; attempts are [request id, number])
    {"op": "taken", "attempts": [...]}                      their results are durable: forget them
    {"op": "drop", "attempts": [...]}                       nobody wants these any more: cancel what runs, forget them
server -> runner
    {"op": "ping", "id": n}                                 answered once the app's loop had its turn
    {"op": "health", "id": n, "path": path, "method": name, "timeout_ms": n}
                                                            call the app there and say what it answers; this takes no slot
    {"op": "serve"}                                         after "CHECK": take calls
    {"op": "drain"}                                         take no new calls: every RESERVE is answered BUSY, GOAWAY goes out
    {"op": "slots", "limit": n}                             take so many calls at once from now on
    {"op": "redial"}                                        the server hands over: dial home again, keep this until it is closed
    {"op": "stack", "id": n}

A template (docs/decisions/0003-templates.md) has one connection, of the same kind:

template -> server
    {"op": "ready", "ms": n}                                orders may be sent
    {"op": "refused", "reason": text}                       it is not fit to be forked, and ends
    {"op": "spare", "pid": n}                               a fork that waits for an order; its memory is the template's
    {"op": "forked", "id": n, "pid": n}                     a child of nobody: whoever reads this has the supervisor adopt it
    {"op": "not_forked", "id": n, "error": text}
server -> template
    {"op": "fork", "id": n, "ticket": {...}, "output": path, "until_ms": n}
                                                            become a runner (Ticket) or a template (TemplateTicket) in a fork; not
                                                            after that moment of the machine's monotonic clock
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from roost.wire.spec import AppSpec


@dataclass(frozen=True, slots=True)
class Ticket:
    """All that a runner process is told, as one JSON object on its stdin, which then ends.

    `token` proves the runner to the server and is worth nothing elsewhere. `env` holds what the app's code may see in
    `os.environ` (spec: app-lifecycle.md §9); it is not in the process's initial environment, which anybody who may list
    processes could read.
    """

    runner_id: str
    token: str
    addresses: tuple[str, ...]
    """Where to dial: "unix:/path" or "tcp:host:port", tried in order."""
    bundle: str
    """Folder with `app.pkl` and `files/`."""
    spec: AppSpec
    application: str
    """"owner/name", with the environment's suffix."""
    revision_id: str
    working_dir: str = ""
    env: dict[str, str] = field(default_factory=dict[str, str])

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Ticket:
        value: dict[str, Any] = json.loads(text)
        value["spec"] = AppSpec.from_json(value["spec"])
        value["addresses"] = tuple(value["addresses"])
        return cls(**value)


@dataclass(frozen=True, slots=True)
class TemplateTicket:
    """All that a template is told: on the stdin of a base template, in the order to fork a revision's."""

    template_id: str
    token: str
    addresses: tuple[str, ...]
    limit_ms: int
    """How long the imports and preload() may take."""
    bundle: str = ""
    """Folder with `app.pkl` and `files/`; "" for a base template, which holds nothing of any author."""
    working_dir: str = ""
    env: dict[str, str] = field(default_factory=dict[str, str])
    """What the app's code may see in `os.environ` while it is imported: nothing that is secret or one runner's own."""

    def to_json(self) -> str:
        return json.dumps({"kind": "template", **dataclasses.asdict(self)})


def read_ticket(text: str) -> Ticket | TemplateTicket:
    """Either ticket from its JSON."""
    value: dict[str, Any] = json.loads(text)
    if value.pop("kind", "") != "template":
        return Ticket.from_json(text)
    value["addresses"] = tuple(value["addresses"])
    return TemplateTicket(**value)


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame on each link connection, from the runner. `versions` are link versions it can speak, best first."""

    kind: str
    """"control" or "calls" of a runner, or "template"; `runner_id` is then the template's."""
    runner_id: str
    token: str
    versions: tuple[int, ...]
    pid: int
    runtime: str
    state: str = "SETUP"
    """"SETUP", "CHECK" or "READY": a runner that dials home again after a crash of the server says how far it is."""
    slots: int = 1
    """Calls that it takes at once."""
    held: int = 0
    """Slots taken by calls that a server before this one sent; a "held" order says when the number changes."""
    health: str = ""
    """Of a control connection: "declared" if its app declares a health check, "usual" if not; "": an older runner, which cannot be asked."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Hello:
        known = {f.name for f in dataclasses.fields(cls)}
        data = {k: v for k, v in value.items() if k in known}
        data["versions"] = tuple(data["versions"])
        return cls(**data)


LINK_VERSIONS = (2, 1)
"""Link versions this code speaks, best first. Two minor versions back stay supported. 2 has KEEP and RESUME, and the orders "taken" and "drop"."""
KEEPING = 2
"""The link version from which a call can be kept."""


def common_version(theirs: tuple[int, ...]) -> int:
    """The best link version that both ends speak; 0 if there is none. The server decides by the runner's hello, and says nothing that is newer."""
    return max(set(theirs) & set(LINK_VERSIONS), default=0)
