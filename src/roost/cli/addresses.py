"""Where an app answers, as it is printed when it is ready: who may call it, its URLs, and curl lines to paste."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from typing import Any

from roost.cli.curl import curl_line, is_websocket
from roost.client.config import Target
from roost.control.events import Ready
from roost.wire.manifest import Manifest

WHO_MAY_CALL = {
    "public": "public: whoever reaches the address may call it",
    "private": "private: callers need a key of this account",
    "shared": "shared: callers need a key of any account",
}
WIDTH = 72


def block(ready: Ready, manifest: Manifest, key: str) -> list[str]:
    """The lines to print. `key` is shell text for the key (see `key_in_shell`), used where the app is not public."""
    spec: dict[str, Any] = manifest.spec.to_json()
    title = f"── {ready.application} "
    lines = [title.ljust(WIDTH, "─"), f"Auth  {WHO_MAY_CALL.get(ready.auth, ready.auth)}"]
    curls: list[str] = []
    for number, endpoint in enumerate(ready.endpoints):
        lines.append(f"{'URL' if number == 0 else '':<5} {endpoint.url}{'  (websocket)' if is_websocket(endpoint.path, spec) else ''}")
        if not is_websocket(endpoint.path, spec):
            curls.append(f"  {curl_line(endpoint.url, endpoint.path, manifest.openapi, key='' if ready.auth == 'public' else key)}")
    return [*lines, "", *curls, *([""] if curls else [])]


def key_in_shell(target: Target, profile: str) -> str:
    """Shell text that stands for the key without showing it: the variable if it is set, else the command that prints it."""
    if os.environ.get("ROOST_KEY") == target.key or target.key_from == "--key":
        return "$ROOST_KEY"
    program = "roost" if shutil.which("roost") else shlex.quote(os.path.abspath(sys.argv[0]))
    return f"$({program} keys current{f' --profile {shlex.quote(profile)}' if profile else ''})"
