"""What an app's code may read in `os.environ` (spec: app-lifecycle.md §9): under our names, and those that moved apps know.

With it `roost.Client` and `fal_client` reach this server from inside a runner, with nothing said (docs/internals/front-door.md).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from roost.core.model import Revision

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is the same for all runners of a server."""

    public: str
    """URL that `roost.Client` uses."""
    https: str
    """The same with TLS, for clients that know nothing else; "" if there is none."""
    bundle: str
    """File of the certificates that runners trust; "" if those of the machine do."""
    region: str
    caches: str
    """Folder of downloaded models."""
    inherited: Mapping[str, str]
    """The server's own environment: where proxies are named."""


def public_environment(revision: Revision, around: Surroundings) -> dict[str, str]:
    """What all runners of a revision have, and what their template sees, whose memory they share: nothing secret, nothing one runner's own."""
    host = _bare(around.public)
    dialled = _bare(around.https or around.public)
    both = {
        "APP_NAME": f"{revision.owner}/{revision.name}",
        "APP_ID": revision.id,
        "USER_NICKNAME": revision.owner,
        "REGION": around.region,
        "RUN_HOST": dialled,
        "QUEUE_RUN_HOST": f"{dialled}/_queue",
    }
    environ = _both(both) | {
        "ROOST_HOST": around.public,
        "FAL_HOST": host,
        "ROOST_RUNNER": "1",
        "IS_ISOLATE_AGENT": "1",
        "HF_HOME": around.inherited.get("HF_HOME") or around.caches,
    }
    if around.bundle:
        environ["SSL_CERT_FILE"] = around.bundle
    return environ | _past_proxies(around)


def own_environment(runner_id: str, key: str) -> dict[str, str]:
    """What one runner has for itself."""
    return _both({"KEY": key, "JOB_ID": runner_id})


def _both(values: Mapping[str, str]) -> dict[str, str]:
    return {f"{prefix}_{name}": value for name, value in values.items() for prefix in ("ROOST", "FAL")}


def _bare(url: str) -> str:
    return url.partition("://")[2]


def _past_proxies(around: Surroundings) -> dict[str, str]:
    """A proxy that the operator named for the world outside cannot reach an address of this machine, and would be asked for it."""
    if not any(around.inherited.get(name) for name in _PROXIES):
        return {}
    said = around.inherited.get("no_proxy") or around.inherited.get("NO_PROXY") or ""
    hosts = [name.strip() for name in said.split(",") if name.strip()]
    ours = [host for url in (around.public, around.https) if _is_address(host := urlsplit(url).hostname or "")]
    return dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(dict.fromkeys([*hosts, *ours]))) if ours else {}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
