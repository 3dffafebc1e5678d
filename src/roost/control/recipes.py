"""What leads a client that knows nothing of Roost to a server: variables, or lines of code, as few as will do (spec: clients.md §1.2).

    with the CONNECT door    https_proxy; the names that clients have built in stay what they are
    else                     FAL_RUN_HOST and FAL_QUEUE_RUN_HOST, which these clients dial with https
    certificate of our own   SSL_CERT_FILE: the machine's certificates and ours, because the variable replaces the store

JavaScript reads none of these variables. Its recipe is the proxy door, which needs no TLS.
"""

from __future__ import annotations

import ipaddress
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

PROXY_PATH = "/api/fal/proxy"
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_HOSTS = ("FAL_RUN_HOST", "FAL_QUEUE_RUN_HOST")


@dataclass(frozen=True, slots=True)
class Addresses:
    """What `GET /v1/addresses` says of a server. "" is "there is none"."""

    http: str
    https: str
    connect: str
    """"host:port" of the CONNECT door."""
    public: str
    ca: str
    """The local authority's certificate in PEM."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Addresses:
        return cls(*(str(value.get(name) or "").rstrip("/") for name in ("http", "https", "connect", "public", "ca")))


@dataclass(frozen=True, slots=True)
class Way:
    """An address that speaks TLS and answers here. `needs_ca`: only to those who trust the server's own authority."""

    base: str
    needs_ca: bool


@dataclass(frozen=True, slots=True)
class Files:
    """Certificates on this machine: the server's authority alone, and with the public ones."""

    ca: str
    bundle: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to set. `variables` are for everything that reads the environment, `door` and `key` for JavaScript."""

    key: str
    variables: tuple[tuple[str, str], ...]
    unset: tuple[str, ...]
    """Variables of another recipe, which would win over this one."""
    door: str
    node_ca: str = ""
    """File that Node must be told of before it starts; "" if it needs none."""


def is_local(url: str) -> bool:
    """Whether a URL or "host:port" is an address of whoever dials it."""
    host = urlsplit(url if "://" in url else f"//{url}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_address(url: str) -> bool:
    """Whether a URL names its host by a number, or as this machine: what no proxy is needed for, and few could reach."""
    host = urlsplit(url).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def candidates(told: Addresses, dialled: str) -> tuple[str, ...]:
    """Addresses with TLS to try from here, best first. `dialled` is the URL at which the server has just answered."""
    found = [dialled] if dialled.startswith("https:") else []
    if told.public.startswith("https:"):
        found.append(told.public)
    if told.https:
        if is_local(dialled) or not is_local(told.https):
            found.append(told.https)
        if not is_local(dialled):
            # The server knows the address that it listens on, not the name by which it is known there.
            found.append(dialled.replace("http:", "https:", 1))
    return tuple(dict.fromkeys(found))


def led_by_connect(told: Addresses, dialled: str) -> bool:
    """Whether the CONNECT door is open to us: it is to this machine alone, and only our authority speaks for the names behind it."""
    return bool(told.connect and told.ca) and is_local(told.connect) and is_local(dialled)


def recipe(told: Addresses, dialled: str, key: str, way: Way, files: Files, environ: Mapping[str, str]) -> Recipe:
    """`way` is that of the candidates which answered. `environ` is where the recipe will be used: it may name proxies already."""
    door_base = dialled if way.needs_ca else way.base
    trusted = (("SSL_CERT_FILE", files.bundle),) if way.needs_ca else ()
    node_ca = files.ca if way.needs_ca and door_base.startswith("https:") else ""
    if led_by_connect(told, dialled):
        variables = (
            ("FAL_KEY", key),
            ("https_proxy", f"http://{told.connect}"),
            ("no_proxy", _no_proxy(environ, ("localhost", "127.0.0.1"))),
            ("SSL_CERT_FILE", files.bundle),
            ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", files.bundle),
            ("NODE_EXTRA_CA_CERTS", files.ca),
            ("NODE_USE_ENV_PROXY", "1"),
        )
        return Recipe(key, variables, _HOSTS, f"{door_base}{PROXY_PATH}", node_ca)
    host = way.base.partition("://")[2]
    variables = (("FAL_KEY", key), ("FAL_RUN_HOST", host), ("FAL_QUEUE_RUN_HOST", f"{host}/_queue"), *trusted)
    if any(environ.get(name) for name in _PROXIES) and is_address(way.base):
        # A proxy for the world outside would be asked for an address that only this machine or its neighbours can reach.
        variables += (("no_proxy", _no_proxy(environ, (urlsplit(way.base).hostname or "",))),)
    if node_ca:
        variables += (("NODE_EXTRA_CA_CERTS", node_ca),)
    return Recipe(key, variables, (), f"{door_base}{PROXY_PATH}", node_ca)


def door_only(dialled: str, key: str) -> Recipe:
    """For a server without TLS: JavaScript can do without, everything else cannot."""
    return Recipe(key, (), (), f"{dialled}{PROXY_PATH}")


def _no_proxy(environ: Mapping[str, str], hosts: tuple[str, ...]) -> str:
    said = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    return ",".join(dict.fromkeys([*(name.strip() for name in said.split(",") if name.strip()), *hosts]))


# --- as text ----------------------------------------------------------------------------------------------------------------


def shell(made: Recipe) -> str:
    """Lines for `eval "$(roost env)"`."""
    lines = [f"unset {' '.join(made.unset)}"] if made.unset else []
    return "\n".join([*lines, *(f"export {name}={shlex.quote(value)}" for name, value in made.variables)])


def python(made: Recipe) -> str:
    """Lines for the top of a program."""
    gone = [f"os.environ.pop({name!a}, None)" for name in made.unset]
    lines = [f"os.environ[{name!a}] = {value!a}" for name, value in made.variables if not name.startswith("NODE_")]
    return "\n".join(["import os", "", *gone, *lines, "", "import fal_client  # below these lines: it reads them when it is imported"])


def javascript(made: Recipe) -> str:
    """Lines for the top of a module."""
    # A path may hold whatever ends a line, and with it the comment.
    first = [" ".join(f"// Start Node with NODE_EXTRA_CA_CERTS={shlex.quote(made.node_ca)}".splitlines())] if made.node_ca else []
    return "\n".join(
        [
            *first,
            'import { fal } from "@fal-ai/client";',
            "",
            "fal.config({",
            f"  credentials: {json.dumps(made.key)},",
            f'  proxyUrl: {{ url: {json.dumps(made.door)}, when: "always" }},',
            "});",
        ]
    )


def data(made: Recipe) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "key": made.key,
        "env": dict(made.variables),
        "unset": list(made.unset),
        "js": {"credentials": made.key, "proxyUrl": {"url": made.door, "when": "always"}},
    }
