"""The app in a path: somebody else's is as unknown as one that never was."""

from __future__ import annotations

from roost.api.request import Request
from roost.core.model import Alias
from roost.store import Store
from roost.wire.errors import RoostError


async def own_alias(store: Store, request: Request) -> Alias:
    """The app of this account that the path names. Raises `not_found`."""
    owner, name = request.params["owner"], request.params["name"]
    alias = await store.apps.get(owner, name) if owner == request.owner else None
    if alias is None:
        raise unknown(f"{owner}/{name}")
    return alias


def unknown(application: str) -> RoostError:
    return RoostError("not_found", f'Application "{application[:200]}" not found', hint="`roost apps list` shows what is deployed here.")
