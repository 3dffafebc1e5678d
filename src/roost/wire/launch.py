"""What a runner is born with and how it reports: the launch ticket (on stdin) and the bodies of the control connection.

The control connection carries CONTROL frames (frames.py) whose payload is one JSON object with an `op`:

runner -> server
    {"op": "state", "state": "SETUP"}                       the class is loaded, setup() begins
    {"op": "state", "state": "READY"}                       setup() ended, calls may be sent
    {"op": "failed", "stage": "load"|"setup"|"serve", "error": text, "traceback": text, "hint": text}
    {"op": "pong", "id": n}                                 the app's own event loop has answered the ping
    {"op": "stack", "id": n, "text": str}
server -> runner
    {"op": "ping", "id": n}                                 answered once the app's loop had its turn
    {"op": "drain"}                                         take no new calls: every RESERVE is answered BUSY, GOAWAY goes out
    {"op": "slots", "limit": n}                             take so many calls at once from now on
    {"op": "redial"}                                        the server hands over: dial home again, keep this until it is closed
    {"op": "stack", "id": n}
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
class Hello:
    """The first frame on each link connection, from the runner. `versions` are link versions it can speak, best first."""

    kind: str
    """"control" or "calls"."""
    runner_id: str
    token: str
    versions: tuple[int, ...]
    pid: int
    runtime: str
    state: str = "SETUP"
    """"SETUP" or "READY": a runner that dials home again after a crash of the server says how far it is."""
    slots: int = 1
    """Calls that it takes at once."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Hello:
        known = {f.name for f in dataclasses.fields(cls)}
        data = {k: v for k, v in value.items() if k in known}
        data["versions"] = tuple(data["versions"])
        return cls(**data)


LINK_VERSIONS = (1,)
"""Link versions this code speaks, best first. Two minor versions back stay supported."""
