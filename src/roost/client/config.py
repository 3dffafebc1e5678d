"""Which server, and with which key: from what was said, the variables, the profile, and last the local default.

The command line and `roost.Client` ask here. Host and key are looked up independently, each in that order, so that `ROOST_HOST` alone
reaches another address of the same server with the profile's key. Programs that moved from fal may have `FAL_KEY`, or `FAL_KEY_ID` and
`FAL_KEY_SECRET`: they come last, because they may still be those of the other place.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from roost.client.errors import ConfigError

DEFAULT_PORT = 8700
DEFAULT_HOST = f"http://127.0.0.1:{DEFAULT_PORT}"


@dataclass(frozen=True, slots=True)
class Profile:
    """One `[profiles.NAME]` table. Empty text means "not said"."""

    host: str = ""
    key: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """The whole config.toml: the chosen profile's name and all profiles."""

    path: Path
    profile: str = ""
    profiles: Mapping[str, Profile] = field(default_factory=dict[str, Profile])


@dataclass(frozen=True, slots=True)
class Target:
    """A server to talk to. `host` is a URL without a slash at its end; `key` is "id:secret" or empty."""

    host: str
    key: str
    owner: str = ""
    """Owner that the profile names; empty if only the server knows."""
    key_from: str = ""
    """Where the key was found, in words that an error can use."""

    @property
    def key_id(self) -> str:
        return self.key.partition(":")[0]

    @property
    def is_local(self) -> bool:
        return urlsplit(self.host).hostname in ("127.0.0.1", "localhost", "::1")


def home(env: Mapping[str, str] = os.environ) -> Path:
    """The state folder: ROOST_HOME, or ~/.roost."""
    return Path(env.get("ROOST_HOME") or "~/.roost").expanduser()


def config_path(env: Mapping[str, str] = os.environ) -> Path:
    """Where the profiles are: ROOST_CONFIG, or config.toml in the state folder."""
    chosen = env.get("ROOST_CONFIG")
    return Path(chosen).expanduser() if chosen else home(env) / "config.toml"


def read(path: Path) -> Config:
    """The profiles in a config.toml; a file that is not there has none. Raises ConfigError for one that cannot be understood."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Config(path)
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"Cannot read {path}: {exc}") from exc
    try:
        data = _parsed(text)
    except ValueError as exc:
        raise ConfigError(
            f"{path} is not valid TOML: {exc}", hint="Mend the line, or move the file away and start `roost up` again."
        ) from exc
    tables = data.get("profiles", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: `profiles` must be tables such as [profiles.default].")
    return Config(path, str(data.get("profile", "")), {str(name): _profile(path, str(name), table) for name, table in tables.items()})


def _parsed(text: str) -> dict[str, Any]:
    # Here, because a program in a runner needs no file, and its Python 3.10 may have no tomli.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # pyright: ignore[reportMissingImports]  (development happens on a newer Python)
    return tomllib.loads(text)


def _profile(path: Path, name: str, table: Any) -> Profile:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: profile {name!r} must be a table [profiles.{name}].")
    return Profile(*(str(table.get(key, "")) for key in ("host", "key", "owner")))


def resolve(*, host: str = "", key: str = "", profile: str = "", key_from: str = "--key", env: Mapping[str, str] = os.environ) -> Target:
    """The server and key to use. The arguments are what was said (a command's flags); empty text means "not said",
    and `key_from` is how an error names the place of `key`.

    Raises ConfigError if a named profile does not exist, or an address or key cannot be one.
    """
    config = _nobodys() if env.get("ROOST_RUNNER") and not profile else read(config_path(env))
    name = profile or env.get("ROOST_PROFILE", "") or config.profile
    if name and name not in config.profiles:
        raise ConfigError(f"There is no profile {name!r} in {config.path}.", hint=_profiles_there(config))
    chosen = config.profiles.get(name, Profile())
    found, source = _first(
        (key, key_from),
        (env.get("ROOST_KEY", ""), "ROOST_KEY"),
        (chosen.key, f"profile {name!r} in {config.path}"),
        (env.get("FAL_KEY", ""), "FAL_KEY"),
        (_joined(env.get("FAL_KEY_ID", ""), env.get("FAL_KEY_SECRET", "")), "FAL_KEY_ID and FAL_KEY_SECRET"),
    )
    return Target(
        host=base_url(_first((host, ""), (env.get("ROOST_HOST", ""), ""), (chosen.host, ""), (DEFAULT_HOST, ""))[0]),
        key=_checked_key(found.strip(), source),
        owner=chosen.owner if found == chosen.key and chosen.owner else env.get("ROOST_USER_NICKNAME", ""),
        key_from=source,
    )


def _nobodys() -> Config:
    """For code in a runner: it acts with the key that it was given, never with one that lies in the home of whoever runs the server."""
    return Config(Path(os.devnull))


def _joined(identity: str, secret: str) -> str:
    return f"{identity}:{secret}" if identity and secret else ""


def base_url(text: str) -> str:
    """`text` as the URL of a server: "host:port", "host" (port 8700) or a URL."""
    bare = "://" not in text
    url = (f"http://{text.strip()}" if bare else text.strip()).rstrip("/")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(
            f"{text!r} is not the address of a server.", hint=f"Write it as host:port or as a URL, for example {DEFAULT_HOST}."
        )
    return f"{url}:{DEFAULT_PORT}" if bare and port is None else url


def _first(*candidates: tuple[str, str]) -> tuple[str, str]:
    return next((candidate for candidate in candidates if candidate[0]), ("", ""))


def _checked_key(key: str, source: str) -> str:
    identity, colon, secret = key.partition(":")
    # A key that cannot be a header would end in an error of the HTTP library which shows the secret.
    if key and not (identity and colon and secret and key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError(
            f"The key from {source} is not of the form id:secret.", hint="Copy the whole value that `roost keys create` printed."
        )
    return key


def _profiles_there(config: Config) -> str:
    return (
        f"It has: {', '.join(sorted(config.profiles))}." if config.profiles else "The file has no profiles; `roost up` makes the first one."
    )
