"""What an operator may set: `server.toml` in the state folder, each also as a variable ROOST_<NAME IN CAPITALS>, which wins.

The reference page is made from this table, so a setting's comment is its documentation.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from roost.core.placement import MachineType
from roost.kit.fetch import AllowList
from roost.web.forwarded import Trusted
from roost.wire.errors import RoostError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]  (development happens on a newer Python)


def _setting(default: Any, doc: str) -> Any:
    metadata = {"doc": doc}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings with their defaults. Durations are seconds here, where people type them."""

    owner: str = _setting(
        "", "name of the account that owns everything here, made at the first start; empty: the name of the person who starts it"
    )
    public_url: str = _setting("", "the address that callers use, when it is not the one listened on (behind a reverse proxy)")
    tls: str = _setting("on", "on: the port speaks TLS too, told by a connection's first byte; off: plain HTTP only")
    tls_certificate: str = _setting(
        "", "PEM file with the certificate of this server and its chain, in place of one of the local authority's"
    )
    tls_key: str = _setting("", "PEM file with the key of tls_certificate")
    tls_names: tuple[str, ...] = _setting((), "further names and addresses in the local authority's certificate")
    trusted_proxies: tuple[str, ...] = _setting(
        ("127.0.0.0/8", "::1"), "addresses and networks whose X-Forwarded-For, -Proto, -Host and -Prefix are believed"
    )
    max_connections_per_address: int = _setting(
        2_000, "connections from one address at once, more are closed; 0: no limit. Trusted proxies have none"
    )
    max_concurrent_per_key: int = _setting(
        0, "direct calls of one API key at once, more are answered 429; 0: no limit. ADMIN keys have none"
    )
    max_body_bytes: int = _setting(100 * 1024 * 1024, "largest request body of a call; a larger one is answered 413")
    max_waiting: int = _setting(10_000, "callers of one app that may wait for a runner at once; more are answered 429")
    failed_starts: int = _setting(3, "starts in a row that may fail before waiting callers are told (504 startup_timeout)")
    trial_s: float = _setting(
        300, "how long a new revision is watched: if it fails in that time, the alias goes back to the revision before; 0: never"
    )
    trial_errors: float = _setting(0.1, "share of a new revision's calls that may fail (5xx, time-outs) while it is watched")
    no_room_s: float = _setting(60, "how long a caller waits while no machine has room (then 503 runner_scheduling_failure)")
    max_concurrency: int = _setting(10, "runners of an app that sets no max_concurrency")
    keep_alive_s: float = _setting(10, "idle seconds of a runner whose app sets no keep_alive (an App sets 60)")
    request_timeout_s: float = _setting(3600, "longest call of an app that sets no request_timeout")
    startup_timeout_s: float = _setting(600, "longest start of a runner whose app sets no startup_timeout")
    termination_grace_s: float = _setting(5, "between SIGTERM and SIGKILL for apps that set no termination_grace_period_seconds")
    index_url: str = _setting("", "package index for app environments instead of the public one")
    extra_index_urls: tuple[str, ...] = _setting((), "further package indexes")
    find_links: tuple[str, ...] = _setting((), "folders or pages with wheels")
    python_downloads: str = _setting("never", "whether missing Python versions may be downloaded: never, manual or automatic")
    build_time_limit_s: float = _setting(3600, "a build that takes longer is stopped and has failed")
    cpu_overcommit: float = _setting(16.0, "how often a core may be promised to runners")
    memory_overcommit: float = _setting(4.0, "how often a megabyte may be promised to runners")
    memory_limits: str = _setting(
        "on", "on: a runner that holds more memory than its machine type has is ended; off: memory is only what placement counts with"
    )
    free_memory_floor_mb: int = _setting(
        256, "no runner is started while the machine has less memory left than this, whatever was promised"
    )
    gpus: tuple[str, ...] = _setting(
        (), "for tests and trials without GPUs: models that this machine shall pretend to have, as in A100,A100"
    )
    template_memory_mb: int = _setting(
        1024, "memory that templates (processes which runners are forked from) may take together; 0: none, every runner starts afresh"
    )
    template_import_limit_s: float = _setting(
        60, "how long the imports and preload() of a template may take; what takes longer has no template, and its runners start afresh"
    )
    region: str = _setting("local", "what runners read as FAL_REGION")
    runner_log_days: float = _setting(7, "how long the output of ended runners is kept")
    traffic_days: float = _setting(
        7, "how long it is kept when calls came and how long they took, for `roost simulate` (64 MB an app at most)"
    )
    request_days: float = _setting(30, "how long queued requests and their results are kept after their end")
    request_hours_without_io: float = _setting(1, "the same for requests that were sent with X-Fal-Store-IO: 0")
    webhook_hours: float = _setting(1, "how long after a request's end its webhook is tried")
    webhook_rate: float = _setting(50, "tries a second to one receiver, at most; 0: no limit")
    webhook_allow: tuple[str, ...] = _setting(
        (), "private receivers that webhooks may reach all the same: names, addresses or networks, each with :PORT or without"
    )
    webhook_ip_ranges: tuple[str, ...] = _setting(
        (), "networks that webhooks come from, as GET /v1/meta tells receivers: the public addresses that this server is seen with"
    )
    machine_types: dict[str, MachineType] = _setting(
        {}, "further machine types or other sizes: [machine_types.NAME] with cpus, memory_mb, gpus, gpu_model"
    )


_CHECKED_BY: Final = {"webhook_allow": AllowList, "trusted_proxies": Trusted}
"""Who will use a list, and raises ValueError for what it cannot use."""


def load(home: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this state folder. Raises RoostError `bad_request` with the file's name for what cannot be understood."""
    path = home / "server.toml"
    values = dict(_read(path))
    for entry in dataclasses.fields(Settings):
        variable = f"ROOST_{entry.name.upper()}"
        if variable in environ and entry.name != "machine_types":
            values[entry.name] = _from_text(environ[variable], entry.default, variable)
    known = {entry.name: entry for entry in dataclasses.fields(Settings)}
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            guess = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(known)}."
            raise RoostError("bad_request", f"{path}: there is no setting {name!r}", hint=guess)
    return Settings(**{name: _checked(name, value, known[name].default, path) for name, value in values.items()})


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RoostError("bad_request", f"{path} cannot be read: {error}", hint="Mend the file, or move it away.") from error


def _from_text(text: str, default: Any, name: str) -> Any:
    try:
        if isinstance(default, tuple):
            return [item for item in text.replace(",", " ").split() if item]
        if isinstance(default, bool):
            return text.lower() in ("1", "true", "yes")
        return type(default)(text)
    except ValueError as error:
        raise RoostError("bad_request", f"{name}={text!r} is no {type(default).__name__}") from error


def _checked(name: str, value: Any, default: Any, path: Path) -> Any:
    if name == "machine_types":
        try:
            return {str(kind): MachineType(str(kind), **sizes) for kind, sizes in value.items()}
        except (TypeError, AttributeError) as error:
            raise RoostError("bad_request", f"{path}: [machine_types] cannot be understood: {error}") from error
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise RoostError("bad_request", f"{path}: {name} must be a list of texts")
        if name in _CHECKED_BY:
            try:
                _CHECKED_BY[name](value)
            except ValueError as error:
                raise RoostError("bad_request", f"{path}: {name}: {error}") from error
        if name == "webhook_ip_ranges":
            try:
                return tuple(str(ip_network(item)) for item in value)
            except ValueError as error:
                raise RoostError("bad_request", f"{path}: {name}: {error}", hint="Write addresses or networks: 203.0.113.7/32.") from error
        return tuple(value)
    if isinstance(default, float) or (isinstance(default, int) and name.endswith("_s")):
        good = isinstance(value, (int, float)) and value >= 0
    else:
        good = isinstance(value, type(default))
    if not good:
        raise RoostError("bad_request", f"{path}: {name} must be a {type(default).__name__}, not {value!r}")
    return value


def render_reference() -> str:
    """docs/reference/settings.md."""
    lines = [
        "<!-- Made by scripts/reference.py. Change the code, then run `make reference`. -->",
        "# Settings",
        "",
        "In `server.toml` in the state folder (`ROOST_HOME`, default `~/.roost`), or as variables of the server's environment, which win.",
        "",
        "| setting | variable | default | meaning |",
        "|---|---|---|---|",
    ]
    for entry in dataclasses.fields(Settings):
        default = entry.default if entry.default is not dataclasses.MISSING else {}
        variable = f"`ROOST_{entry.name.upper()}`" if entry.name != "machine_types" else "-"
        shown = {"": "-", (): "-"}.get(default if not isinstance(default, dict) else "", f"`{default}`")
        lines.append(f"| `{entry.name}` | {variable} | {shown} | {entry.metadata['doc']} |")
    return "\n".join(lines) + "\n"
