"""The ways by which a client with addresses of its own reaches a server: what its environment says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.system.roosts import Roost

_FROM_OUTSIDE = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")


@dataclass(frozen=True)
class Way:
    name: str
    env: Mapping[str, str]
    """Variables that a person would export."""

    def environ(self, roost: Roost, **more: str) -> dict[str, str]:
        """The whole environment of a client that goes this way: nothing of the developer's own proxies, keys and certificates."""
        kept = {name: os.environ[name] for name in _FROM_OUTSIDE if name in os.environ}
        return {**kept, "FAL_KEY": roost.key, "OWNER": roost.owner, "WAY": self.name, **self.env, **more}


def direct(roost: Roost, port: int | None = None) -> Way:
    """To the server's own port, roles told by path. `port`: of something between that passes bytes on."""
    return at("direct", f"localhost:{port or roost.port}", roost.home / "state" / "tls" / "bundle.pem")


def at(name: str, address: str, bundle: Path) -> Way:
    """Under one address; the certificate's authority is in `bundle`."""
    return Way(name, {"FAL_RUN_HOST": address, "FAL_QUEUE_RUN_HOST": f"{address}/_queue", "SSL_CERT_FILE": str(bundle)})


def connect(roost: Roost, door: str) -> Way:
    """Through the door for CONNECT: the client dials the names that it has built in."""
    return Way("connect", {"https_proxy": f"http://{door}", "SSL_CERT_FILE": str(roost.home / "state" / "tls" / "bundle.pem")})
