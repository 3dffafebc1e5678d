"""The server's one ASGI app: tells roles apart, checks who may call, and turns every error of ours into its named answer."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, MutableMapping
from typing import Any

from roost.gateway import proxy
from roost.gateway.forward import Successor, arriving
from roost.gateway.resolve import Routes, Target
from roost.gateway.sync import Ask, Begun, DirectCalls
from roost.kit import log
from roost.web import browsers, cors, roles
from roost.web.answers import Asgi, Receive, Scope, Send, send_error
from roost.web.auth import KeyRing, Principal
from roost.web.browsers import Own
from roost.web.headers import find
from roost.web.passed_on import Seal
from roost.wire import ids
from roost.wire.errors import RoostError

_LAST_READ_S = 2.0


class Gateway:
    """Routes each request to its role. `others` holds the ASGI apps of the roles that the gateway does not serve itself."""

    def __init__(
        self,
        routes: Routes,
        keys: KeyRing,
        calls: DirectCalls,
        others: Mapping[str, Asgi],
        public_url: str = "",
        seal: Seal | None = None,
        own: Own | None = None,
    ) -> None:
        """`seal`: of the server before this one, which may pass requests on; None: there is none. `own`: the names of this one; None: any."""
        self._routes = routes
        self._keys = keys
        self._calls = calls
        self._others = others
        self._public_url = public_url
        self._own = own or Own(public_url=public_url)
        self._seal = seal
        self._successor: Successor | None = None

    def hand_over(self, successor: Successor) -> None:
        """From now on every request goes to the new server; those that wait for a runner here go there as well."""
        self._successor = successor
        self._calls.hand_over(successor)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"a {scope['type']} connection reached the gateway")
        begun: object = scope.get("roost.begun")
        request_id = begun.ask.request_id if isinstance(begun, Begun) else ids.request_id()
        started = False
        by_proxy = proxy.is_door(scope["raw_path"])
        if by_proxy:
            send = cors.opening(send)

        def send_once(message: MutableMapping[str, Any]) -> Awaitable[None]:
            nonlocal started
            started = True
            return send(message)

        scope["roost.original_path"] = scope["raw_path"]
        if self._seal is not None:
            self._seal.read(scope)
        try:
            if isinstance(begun, Begun):
                await self._calls.go_on(scope, send_once, begun)
                return
            if self._successor is not None and begun is None:
                await self._successor.pass_on(scope, send_once, arriving(receive))
                return
            preflight = cors.is_preflight(scope)
            if by_proxy and not preflight:
                scope = proxy.aimed(scope, self._public_url)
            addressed = _addressed(scope)
            if preflight and (by_proxy or roles.for_pages(addressed)):
                await cors.allow(send_once, request_id.encode())
            elif addressed.role == "run":
                await self._call(scope, receive, send_once, addressed.path, request_id)
            else:
                await self._other(addressed, scope, receive, send_once, request_id)
        except RoostError as error:
            await self._tell(scope, send, started, error, request_id)
        except Exception as error:
            log.exception("gateway.failed", error, path=scope["path"], request_id=request_id)
            await self._tell(
                scope, send, started, RoostError("internal_error", f"Roost failed to handle this request ({request_id})"), request_id
            )

    async def _call(self, scope: Scope, receive: Receive, send: Send, path: bytes, request_id: str) -> None:
        headers = scope["headers"]
        if (find(headers, b"upgrade") or b"").lower() == b"websocket":
            raise RoostError(
                "not_implemented",
                "this server has no realtime connections (websockets) yet",
                hint="Call the app over HTTP: run, stream or the queue.",
            )
        target = await self._routes.resolve(path)
        principal = self.may_call(target, find(headers, b"authorization"))
        with self._calls.allowance.one_more(principal):
            await self._calls.serve(scope, receive, send, Ask.of(request_id, target, principal))

    def may_call(self, target: Target, authorization: bytes | None) -> Principal | None:
        """Who calls; None is an anonymous caller of a public app. Raises RoostError (spec: gateway-http.md §6, GAPS C14, C15)."""
        route = target.route
        if route.auth == "public":
            try:
                return self._keys.check(authorization) if authorization is not None else None
            except RoostError:
                # A public app takes everybody, also with a key of somebody else's world.
                return None
        try:
            principal = self._keys.check(authorization)
        except RoostError as error:
            raise RoostError(
                error.code, f'Cannot access application "{route.application}": {error.detail[0].lower()}{error.detail[1:]}', hint=error.hint
            ) from None
        if route.auth == "private" and principal.owner != route.owner:
            raise RoostError("forbidden", f'Cannot access application "{route.application}": it is private to {route.owner}')
        return principal

    async def _other(self, addressed: roles.Addressed, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        app = self._others.get(addressed.role)
        if app is None:
            raise RoostError("not_found", f"this server does not serve {addressed.role} requests")
        if addressed.role != "queue":
            if roles.for_pages(addressed):
                send = cors.opening(send)
            elif (why := browsers.foreign(scope["method"], scope["headers"], self._own)) is not None:
                raise RoostError(
                    "forbidden",
                    f"the control plane does not answer this page: {why}",
                    hint="If it is a page of this server, set public_url (or tls_names) in server.toml to the name that it is dialled by.",
                )
        scope["raw_path"] = addressed.path
        scope["roost.request_id"] = request_id
        await app(scope, receive, send)

    async def _tell(self, scope: Scope, send: Send, started: bool, error: RoostError, request_id: str) -> None:
        caller = scope.get("roost.caller")
        if started:
            # The head of a response has gone out; only a broken connection can say that it will not be completed.
            if caller is not None:
                caller.hang_up_in(0)
            return
        if error.status in (408, 413) and caller is not None:
            # The caller may still be sending: it needs a moment to read this answer before the connection ends.
            caller.hang_up_in(_LAST_READ_S)
        if roles.for_pages(_addressed(scope)):
            # Browsers show a script nothing of an answer without this, not even why the call failed.
            send = cors.opening(send)
        await send_error(send, error, request_id, error.headers, close=self._calls.closing)


def _addressed(scope: Scope) -> roles.Addressed:
    return roles.address(find(scope["headers"], b"host") or b"", scope["roost.original_path"])
