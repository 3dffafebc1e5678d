"""Who owns this server: made at the first start, with an admin key and a profile that the CLI finds."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from roost.core.model import Key
from roost.store import Store
from roost.web.auth import hash_secret
from roost.web.roles import reserved_owner
from roost.wire import ids

PROFILE = "local"


@dataclass(frozen=True, slots=True)
class FirstStart:
    """What a first start made: to be shown once."""

    owner: str
    key: str
    config: Path


def pepper(state: Path) -> bytes:
    """The server's own part of every key's hash; made once, in a file that only its owner may read (faults.md S-02, S-09)."""
    path = state / "pepper"
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    fresh = secrets.token_bytes(32)
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(fresh)
        file.flush()
        os.fsync(descriptor)
    temporary.rename(path)
    return fresh


async def establish(store: Store, home: Path, wish: str, secret: bytes, url: str, now_ms: int) -> tuple[str, FirstStart | None]:
    """The owner's name, and what was made if this is the first start. The profile follows the address that is listened on."""
    owner = await store.meta.set_once("owner", owner_name(wish or _person()))
    config = Path(os.environ.get("ROOST_CONFIG") or home / "config.toml")
    if await store.meta.get("admin_key") is not None:
        _follow_address(config, url)
        return owner, None
    key_id, key_secret = ids.key_id(), ids.secret()
    await store.keys.create(Key(key_id, owner, "ADMIN", "first start", hash_secret(secret, key_secret), now_ms, None))
    key = f"{key_id}:{key_secret}"
    _write_profile(config, owner, key, url)
    # Last: a first start that was killed in the middle is done again.
    await store.meta.set("admin_key", key_id)
    return owner, FirstStart(owner, key, config)


def owner_name(text: str) -> str:
    """A name that can stand first in a URL: lower case, digits, dashes; never one that the server answers itself."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "me"
    return f"{name}-1" if reserved_owner(name) else name


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "me"


def _write_profile(config: Path, owner: str, key: str, url: str) -> None:
    profile = f'[profiles.{PROFILE}]\nhost = "{url}"\nkey = "{key}"\nowner = "{owner}"\n'
    before = config.read_text(encoding="utf-8") if config.exists() else ""
    if before:
        kept = re.sub(rf"^\[profiles\.{PROFILE}\]\n(?:(?!\[).*\n?)*", "", before, flags=re.MULTILINE)
        text = kept.rstrip() + ("\n\n" if kept.strip() else "") + profile
    else:
        text = f'profile = "{PROFILE}"\n\n{profile}'
    _replace(config, text)


def _follow_address(config: Path, url: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        before = config.read_text(encoding="utf-8")
        after = re.sub(rf'(^\[profiles\.{PROFILE}\]\n(?:(?!\[|host = ).*\n)*host = ")[^"]*"', rf'\g<1>{url}"', before, flags=re.MULTILINE)
        if after != before:
            _replace(config, after)


def _replace(config: Path, text: str) -> None:
    config.parent.mkdir(parents=True, exist_ok=True)
    temporary = config.with_name(config.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.rename(config)
