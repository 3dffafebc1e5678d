"""Who called, and how, of a request that the server before this one passed on: a field that only the servers of one state folder can write.

Without it such a request would come from this machine over plain HTTP, whoever sent it: its app would be told so, and its queue addresses would
begin with http and lack what a proxy has cut off.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Final

from roost.web.answers import Scope
from roost.web.headers import find

FIELD: Final = b"x-roost-passed-on"


class Seal:
    """`secret` is the state folder's."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hmac.digest(secret, b"requests that are passed on", hashlib.sha256)

    def write(self, scope: Scope) -> tuple[bytes, bytes]:
        """The field for a request that is passed on."""
        said = json.dumps([scope["scheme"], scope.get("client"), scope.get("root_path", "")]).encode()
        return FIELD, said + b" " + self._of(said)

    def read(self, scope: Scope) -> None:
        """Put into the scope of a request that was passed on what it had there; what is not from such a server says nothing. The field goes."""
        value = find(scope["headers"], FIELD)
        if value is None:
            return
        scope["headers"] = [field for field in scope["headers"] if field[0] != FIELD]
        said, _, seal = value.rpartition(b" ")
        if hmac.compare_digest(seal, self._of(said)):
            scope["scheme"], client, scope["root_path"] = json.loads(said)
            scope["client"] = tuple(client) if client is not None else None

    def _of(self, said: bytes) -> bytes:
        return hmac.digest(self._secret, said, hashlib.sha256).hex().encode()
