"""A request as tests need one: usual in everything that they do not say."""

from __future__ import annotations

from typing import Final

from roost.core.requests import Priority, Request, RequestState, RetryRules

REQUEST: Final = Request(
    seq=0,
    id="",
    owner="me",
    name="app",
    environment="main",
    caller="me",
    state=RequestState.IN_QUEUE,
    priority=Priority.NORMAL,
    attempt=0,
    deaths=0,
    used=(),
    created_ms=0,
    due_ms=None,
    deadline_ms=None,
    hint="",
    rules=RetryRules(),
    store_io=True,
    endpoint="/",
    method="POST",
)
"""`blank.REQUEST._replace(id="r1", caller="ada")`."""
