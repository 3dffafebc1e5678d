"""Where an app's endpoints and its queued requests are, below a server's URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

NAMESPACES = ("workflows", "comfy")
_OLD_FORM = re.compile(r"([0-9]+)-([A-Za-z0-9-]+)")
_SAFE = "/~@:!$&'()*+,;="


@dataclass(frozen=True, slots=True)
class AppId:
    """`[namespace/]owner/alias[/path]`, taken apart (spec: gateway-http.md §2)."""

    app: str
    """With the owner, and the namespace if there is one."""
    path: str = ""
    """Below the app, without a slash in front; may end in a query."""

    @classmethod
    def parse(cls, text: str, owner: str = "") -> AppId:
        """`owner` is whose app a name alone is. Raises ValueError for what names no app."""
        whole, question, query = text.strip("/").partition("?")
        parts = whole.split("/")
        if len(parts) == 1 and (old := _OLD_FORM.fullmatch(whole)):
            parts = list(old.groups())
        elif len(parts) == 1 and owner:
            parts = [owner, *parts]
        length = 3 if parts[0] in NAMESPACES else 2
        if len(parts) < length or not all(parts[:length]):
            raise ValueError(f"{text!r} names no app; write OWNER/NAME, or OWNER/NAME/PATH.")
        return cls("/".join(parts[:length]), f"{'/'.join(parts[length:])}{question}{query}")

    def under(self, path: str) -> AppId:
        """With `path` below what is there."""
        own, more = self.path.rstrip("/"), path.lstrip("/")
        return AppId(self.app, f"{own}/{more}" if own and more else own or more)


@dataclass(frozen=True, slots=True)
class Place:
    """One server as its callers reach it. `base` is a URL, also one with a path, without a slash at its end."""

    base: str

    def direct(self, app: AppId) -> str:
        return f"{self.base}/{_path(app)}"

    def submit(self, app: AppId) -> str:
        return f"{self.base}/_queue/{_path(app)}"

    def request(self, app: AppId, request_id: str) -> str:
        """A queued request. Made here and not taken from the submit's answer: behind a proxy only the caller knows what it dialled,
        and a key must not follow an address that an answer names."""
        return f"{self.base}/_queue/{quote(app.app, safe=_SAFE)}/requests/{quote(request_id, safe='')}"


def _path(app: AppId) -> str:
    path, question, query = app.path.partition("?")
    return f"{quote(f'{app.app}/{path}' if path else app.app, safe=_SAFE + '%')}{question}{query}"
