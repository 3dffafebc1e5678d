"""Where this server is reached, and what a caller must trust for it: `roost env` and clients elsewhere begin here."""

from __future__ import annotations

from roost.api.answer import Answer, Json
from roost.api.parts import ApiParts
from roost.api.request import Request
from roost.api.routes import May, Route


class AddressCalls:
    def __init__(self, parts: ApiParts) -> None:
        self._reached = parts.reached

    def routes(self) -> tuple[Route, ...]:
        return (Route("GET", "/v1/addresses", self.addresses, May.ANYBODY),)

    async def addresses(self, request: Request) -> Answer:
        """Nothing in it is secret: whoever can ask has an address already, and a certificate is there to be shown."""
        reached, tls = self._reached, self._reached.tls
        return Json(
            {
                "http": reached.http,
                "https": reached.https or None,
                "connect": reached.connect or None,
                "public": reached.public,
                "ca": tls.ca if tls is not None else None,
                "bundle": str(tls.bundle) if tls is not None and tls.bundle is not None else None,
                "names": list(tls.names) if tls is not None else [],
            }
        )
