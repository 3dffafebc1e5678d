"""The host names that the public protocol's clients have built in (spec: clients.md §1, gateway-http.md §1), one by one.

Three parts must agree on them: the certificate that speaks for them, the CONNECT door that leads them here, and the door for JavaScript that
takes them as targets. Wildcards are no use to the first: gRPC refuses them below a top-level name.
"""

from __future__ import annotations

from typing import Final, Literal

Role = Literal["run", "queue", "ws", "rest", "api"]
"""Parts of the server that an address can be for: calls, the queue, calls over a websocket, what stands around calls, the control plane."""

PUBLIC_HOSTS: Final[dict[str, Role]] = {
    "fal.run": "run",
    "queue.fal.run": "queue",
    "ws.fal.run": "ws",
    "falrun.com": "run",  # where fal_client tries once more when the first two cannot be reached
    "queue.falrun.com": "queue",
    "rest.fal.ai": "rest",
    "rest.alpha.fal.ai": "rest",
    "api.fal.ai": "api",
    "api.alpha.fal.ai": "api",
    "fal.media": "rest",
    "v2.fal.media": "rest",
    "v3.fal.media": "rest",
    "v3b.fal.media": "rest",
    "kv.fal.media": "rest",
}


def public_role(host: str) -> Role | None:
    """The role that a built-in name stands for; `host` without its port, in any case. None: it is no such name."""
    return PUBLIC_HOSTS.get(host.lower())
