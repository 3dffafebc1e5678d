"""The one way to a URL that a caller gave (faults.md S-12, S-14): judged, resolved once, and dialled at the address that was judged.

A name is resolved by us and never again by who dials: between two look-ups whoever owns the name can change its answer. Redirects are not
followed, proxies and cookies are not used, and nothing of ours goes out but what is given, so that a receiver learns what it is sent.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import certifi
import h11

import roost
from roost.kit.exchange import Answer, Broken, Connection
from roost.kit.targets import Address, AllowList, Refused, Target, dialable, understand
from roost.kit.targets import judge_url as _judge_url
from roost.wire.frames import Headers

__all__ = ["AllowList", "FetchFailed", "Fetched", "Fetcher", "Limits", "Refused", "Resolve", "judge_url", "system_trust"]

RESOLVED_S: Final = 5.0
"""How long an answer of the resolver is used."""
JUDGED_S: Final = 60.0
"""How long a connection may be kept after its address was judged: what the name means may change."""
IDLE_S: Final = 4.0
"""How long a connection is kept unused: less than servers wait before they close theirs, which would cost the next question."""
_LOOKUPS: Final = 64
_REMEMBERED: Final = 1_024
_KEPT: Final = 256
_ADDRESSES: Final = 4
"""Of a name, that are tried."""
_OURS: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade", b"te"))
"""Fields of the connection, which nobody else may set."""

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
"""The addresses of a name, for this port. Raises OSError."""


class FetchFailed(Exception):
    """There is no answer. The text is a sentence that says why."""

    def __init__(self, sentence: str, *, timed_out: bool = False, tls: bool = False) -> None:
        super().__init__(sentence)
        self.timed_out = timed_out
        self.tls = tls


@dataclass(frozen=True, slots=True)
class Limits:
    """What one fetch may take. `total_s` covers all of it, from the look-up of the name to the answer's last byte."""

    total_s: float = 15.0
    connect_s: float = 10.0
    answer_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer, whatever its status."""

    status: int
    headers: Headers
    body: bytes
    """As it was sent: what is compressed stays so."""
    address: str
    """The address that gave it."""
    cut: bool = False
    """The body was longer than `answer_bytes`; the rest was not read."""


def judge_url(url: str, allow: AllowList | Sequence[str] = ()) -> str:
    """The URL as it would be fetched. Raises Refused for one that never will be; a name may still turn out to be refused when it is dialled."""
    return _judge_url(url, allow if isinstance(allow, AllowList) else AllowList(allow))


def system_trust() -> ssl.SSLContext:
    """The certificates that this machine trusts: those of SSL_CERT_FILE or SSL_CERT_DIR, else the system's, else certifi's."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not context.get_ca_certs() and paths.cafile is None and paths.capath is None:
        context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


class Fetcher:
    """Fetches what callers name. `allow` as in AllowList; raises ValueError for an entry that cannot be understood."""

    def __init__(
        self,
        allow: Sequence[str] = (),
        *,
        resolve: Resolve | None = None,
        trust: Callable[[], ssl.SSLContext] = system_trust,
    ) -> None:
        self.allow = AllowList(allow)
        self._names = _Names(resolve or _SystemResolver())
        self._trust = trust
        self._context: ssl.SSLContext | None = None
        self._kept: dict[tuple[str, str, int], list[_Kept]] = {}
        self._kept_count = 0

    async def fetch(self, method: str, url: str, headers: Headers | None = None, body: bytes = b"", limits: Limits = Limits()) -> Fetched:
        """One question and its answer. Raises Refused for a target that must not be reached, FetchFailed when there is no answer.

        When a kept connection turns out to be closed before anything was answered, the question is sent once more on a new one:
        a receiver may rarely see it twice.
        """
        target = understand(url, self.allow)
        head = _request(method, target, headers or [], len(body))
        loop = asyncio.get_running_loop()
        # A task of its own, as wait_for on older Pythons can lose the result of what it waits for, and with it an open connection.
        task = loop.create_task(self._fetch(target, head, body, limits), name=f"fetch {target.authority}")
        try:
            done, _ = await asyncio.wait((task,), timeout=limits.total_s)
        except asyncio.CancelledError:
            task.add_done_callback(_seen)
            task.cancel()
            raise
        if not done:
            task.cancel()
            await asyncio.wait((task,))
        if task.cancelled():
            raise FetchFailed(f"{target.authority} gave no answer within {limits.total_s:g} s", timed_out=True)
        return task.result()

    def close(self) -> None:
        """Close the connections that are kept."""
        for waiting in list(self._kept.values()):
            for kept in waiting:
                kept.drop()
        self._kept.clear()
        self._kept_count = 0

    async def _fetch(self, target: Target, head: h11.Request, body: bytes, limits: Limits) -> Fetched:
        kept = self._take_kept(target)
        if kept is not None:
            try:
                return await self._ask(target, kept, head, body, limits)
            except Broken as broken:
                if not broken.unused:
                    raise FetchFailed(f"{target.authority} {broken}") from broken
        try:
            return await self._ask(target, await self._dial(target, limits), head, body, limits)
        except Broken as broken:
            raise FetchFailed(f"{target.authority} {broken}") from broken

    async def _ask(self, target: Target, on: _Kept, head: h11.Request, body: bytes, limits: Limits) -> Fetched:
        try:
            answer: Answer = await on.connection.ask(head, body, answer_bytes=limits.answer_bytes)
        except BaseException:
            on.connection.abort()
            raise
        self._keep(target, on)
        return Fetched(answer.status, answer.headers, answer.body, on.address, answer.cut)

    # connections

    async def _dial(self, target: Target, limits: Limits) -> _Kept:
        """A new connection to an address that was judged just now."""
        loop = asyncio.get_running_loop()
        until = loop.time() + limits.connect_s
        judged_s = loop.time()
        addresses = await self._addresses(target, limits.connect_s)
        failed: FetchFailed | None = None
        for place, address in enumerate(addresses):
            # Each gets its part of the time, so that one that never answers does not cost those after it theirs.
            share = (until - loop.time()) / (len(addresses) - place)
            try:
                return _Kept(await self._connect(target, address, share), str(address), judged_s)
            except FetchFailed as error:
                failed = error
        assert failed is not None
        raise failed

    async def _addresses(self, target: Target, seconds: float) -> list[Address]:
        if target.address is not None:
            return [target.address]
        try:
            found = await self._names.find(target.host, target.port, seconds)
        except (TimeoutError, asyncio.TimeoutError):
            raise FetchFailed(f"the name {target.host} was not resolved within {seconds:g} s", timed_out=True) from None
        except OSError as error:
            raise FetchFailed(f"the name {target.host} cannot be resolved: {error.strerror or error}") from error
        good = dialable(target, found, self.allow)[:_ADDRESSES]
        if not good:
            raise FetchFailed(f"the name {target.host} has no address")
        return good

    async def _connect(self, target: Target, address: Address, seconds: float) -> Connection:
        connection = Connection()
        secure = {"ssl": self._tls(), "server_hostname": target.host} if target.scheme == "https" else {}
        # An address, never the name: nobody after us may look it up again.
        opening = asyncio.ensure_future(
            asyncio.get_running_loop().create_connection(lambda: connection, str(address), target.port, **secure)  # type: ignore[arg-type]
        )
        opening.add_done_callback(_seen)
        try:
            done, _ = await asyncio.wait((opening,), timeout=max(seconds, 0))
            if not done:
                raise FetchFailed(f"{target.authority} ({address}) took no connection within its time", timed_out=True)
            opening.result()
        except BaseException as error:
            opening.cancel()
            connection.abort()
            if isinstance(error, ssl.SSLCertVerificationError):
                raise FetchFailed(f"the certificate of {target.authority} is not valid: {error.verify_message}", tls=True) from error
            if isinstance(error, ssl.SSLError):
                raise FetchFailed(f"TLS with {target.authority} failed: {error.reason or error}", tls=True) from error
            if isinstance(error, OSError):
                tls = bool(secure) and isinstance(error, ConnectionResetError)
                raise FetchFailed(f"{target.authority} ({address}) cannot be reached: {error.strerror or error}", tls=tls) from error
            raise
        return connection

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._trust()
        return self._context

    def _take_kept(self, target: Target) -> _Kept | None:
        waiting = self._kept.get((target.scheme, target.host, target.port), [])
        while waiting:
            kept = waiting.pop()
            self._kept_count -= 1
            kept.stop_waiting()
            if kept.connection.reusable and asyncio.get_running_loop().time() - kept.judged_s < JUDGED_S:
                return kept
            kept.drop()
        return None

    def _keep(self, target: Target, kept: _Kept) -> None:
        fresh = asyncio.get_running_loop().time() - kept.judged_s < JUDGED_S - IDLE_S
        if not (kept.connection.reusable and fresh and self._kept_count < _KEPT):
            kept.drop()
            return
        waiting = self._kept.setdefault((target.scheme, target.host, target.port), [])
        waiting.append(kept)
        self._kept_count += 1
        kept.timer = asyncio.get_running_loop().call_later(IDLE_S, self._idle, target, kept)

    def _idle(self, target: Target, kept: _Kept) -> None:
        key = (target.scheme, target.host, target.port)
        waiting = self._kept.get(key, [])
        if kept in waiting:
            waiting.remove(kept)
            self._kept_count -= 1
        if not waiting:
            self._kept.pop(key, None)
        kept.drop()


class _Kept:
    """A connection, and when its address was judged."""

    __slots__ = ("address", "connection", "judged_s", "timer")

    def __init__(self, connection: Connection, address: str, judged_s: float) -> None:
        self.connection = connection
        self.address = address
        self.judged_s = judged_s
        self.timer: asyncio.TimerHandle | None = None

    def stop_waiting(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def drop(self) -> None:
        self.stop_waiting()
        self.connection.abort()


class _Names:
    """What names mean, remembered for seconds; many who ask for one name at once are one question."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._asked: dict[tuple[str, int], tuple[float, asyncio.Future[Sequence[Address]]]] = {}

    async def find(self, host: str, port: int, seconds: float) -> Sequence[Address]:
        """Raises OSError, TimeoutError."""
        key = (host, port)
        known = self._asked.get(key)
        now_s = asyncio.get_running_loop().time()
        # A question without an answer yet is never asked again: each costs a thread, and a name server that hangs keeps it.
        if known is None or (known[1].done() and (known[0] < now_s or known[1].cancelled() or known[1].exception() is not None)):
            if len(self._asked) >= _REMEMBERED:
                self._asked = {key: asked for key, asked in self._asked.items() if not asked[1].done()}
            known = self._asked[key] = (now_s + RESOLVED_S, asyncio.ensure_future(self._resolve(host, port)))
            known[1].add_done_callback(_seen)
        question = known[1]
        done, _ = await asyncio.wait((question,), timeout=seconds)
        if not done:
            raise TimeoutError
        return question.result()


def _seen(ended: asyncio.Future[Any]) -> None:
    """What it raised after everybody stopped waiting is nothing to complain of."""
    if not ended.cancelled():
        ended.exception()


class _SystemResolver:
    """getaddrinfo, each in a thread of its own that nobody waits for: a name server that hangs must hold up no other name and no exit."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_LOOKUPS)

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[Address]] = loop.create_future()

        def tell(found: Sequence[Address], error: OSError | None) -> None:
            self._places.release()
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(found)

        def look_up() -> None:
            found: list[Address] = []
            failed: OSError | None = None
            try:
                for _, _, _, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                    # The zone of a link-local address stays in its text, and is judged.
                    found.append(ip_address(str(where[0])))
            except (OSError, UnicodeError, ValueError) as error:
                failed = error if isinstance(error, OSError) else OSError(str(error))
            try:
                loop.call_soon_threadsafe(tell, found, failed)
            except RuntimeError:
                pass  # the loop has ended, and with it everybody who asked

        try:
            threading.Thread(target=look_up, name=f"look up {host}", daemon=True).start()
        except RuntimeError as error:
            self._places.release()
            raise OSError(f"no thread for it: {error}") from error
        return await answer


def _request(method: str, target: Target, given: Headers, size: int) -> h11.Request:
    """The request's head. Raises ValueError for fields that cannot be sent: those are made by us, so it is our mistake."""
    names = {name.lower() for name, _ in given}
    wrong = names & _OURS
    if wrong:
        raise ValueError(f"{', '.join(sorted(name.decode() for name in wrong))}: nobody but the fetcher sets these fields")
    fields: list[tuple[bytes, bytes]] = [(b"host", target.authority.encode())]
    if b"user-agent" not in names:
        fields.append((b"user-agent", f"Roost/{roost.__version__}".encode()))
    if b"accept" not in names:
        fields.append((b"accept", b"*/*"))
    if size or method in ("POST", "PUT", "PATCH"):
        fields.append((b"content-length", b"%d" % size))
    try:
        return h11.Request(method=method, target=target.path, headers=[*fields, *given])
    except h11.LocalProtocolError as error:
        raise ValueError(f"a request that cannot be sent: {error}") from error
