"""One try of one webhook: the same bytes each time, signed for this moment, sent where the caller wanted it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from roost.core import webhooks
from roost.core.requests import Content, Output, Request
from roost.core.webhooks import Answered, Forbidden, Outcome, Unanswered, Webhook
from roost.data.payloads import INLINE, DamagedPayload, Payloads
from roost.kit.failpoints import failpoint
from roost.kit.fetch import Fetched, FetchFailed, Limits, Refused
from roost.store.json_text import is_json
from roost.store.request_reads import DamagedContent
from roost.store.requests import Requests
from roost.wire.frames import Headers

_ANSWER_BYTES = 16 * 1024
"""Of a receiver's answer only the status counts."""
_CONNECT_S = 10.0


class Fetch(Protocol):
    """`kit.fetch.Fetcher`."""

    async def fetch(
        self, method: str, url: str, headers: Headers | None = None, body: bytes = b"", limits: Limits = Limits()
    ) -> Fetched: ...

    def close(self) -> None: ...


Sign = Callable[[str, str, int, bytes], Sequence[tuple[str, str]]]
"""`data.signing.Signer.sign`: request id, account, unix seconds, body -> header fields."""


@dataclass(frozen=True, slots=True)
class Courier:
    """Made once a server."""

    requests: Requests
    payloads: Payloads
    fetch: Fetch
    sign: Sign
    now_ms: Callable[[], int]

    async def carry(self, webhook: Webhook) -> Outcome | None:
        """Send it once. None: its request is not kept any more, so that there is nothing to send. Raises StoreError when it cannot be read."""
        body = await self._body(webhook)
        if body is None:
            return None
        signed = self.sign(webhook.request_id, webhook.caller, self.now_ms() // 1000, body)
        headers = [(b"content-type", b"application/json"), *((name.lower().encode(), value.encode()) for name, value in signed)]
        limit_s = webhooks.limit_ms(webhook) / 1000
        failpoint("webhooks.send:before")
        try:
            answer = await self.fetch.fetch("POST", webhook.url, headers, body, Limits(limit_s, min(limit_s, _CONNECT_S), _ANSWER_BYTES))
        except Refused as error:
            return Forbidden(str(error))
        except FetchFailed as error:
            return Unanswered(str(error))
        failpoint("webhooks.send:after")
        return Answered(answer.status)

    async def _body(self, webhook: Webhook) -> bytes | None:
        request = await self.requests.get(webhook.request_id)
        if request is None:
            return None
        try:
            output = await self.requests.output(request.id)
        except DamagedContent as error:
            # The app did answer; what, is lost.
            return webhooks.payload(request, Output(request.status or 500, (), Content()), None, str(error))
        if output is None:
            return webhooks.payload(request, None, None)
        if output.content.size <= INLINE:
            return self._of(request, output)
        return await asyncio.to_thread(self._of, request, output)

    def _of(self, request: Request, output: Output) -> bytes:
        """Blocks as a read of the disk does, when the answer lies in a file."""
        content = output.content
        if problem := webhooks.too_large(content.size):
            return webhooks.payload(request, output, None, problem)
        try:
            body = content.inline if content.inline is not None else self.payloads.read(content.file, 0, content.size)
        except DamagedPayload as error:
            return webhooks.payload(request, output, None, f"What the app answered cannot be read any more: {error}")
        if not is_json(body):
            return webhooks.payload(request, output, None, webhooks.no_json(output))
        return webhooks.payload(request, output, body)
