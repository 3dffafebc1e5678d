"""A run that a program begins: what `roost run` does, from Python and in authors' own tests (spec: app-class.md §1.4, §1.10)."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from concurrent.futures import Future
from contextlib import closing, suppress
from queue import Empty, Full, Queue
from time import monotonic
from typing import Any

from typing_extensions import Self

from roost.client import config
from roost.client.config import Target
from roost.client.lighthttp import httpx
from roost.client.trust import trust
from roost.control.api import Api
from roost.control.bundle import build
from roost.control.deploy import run, upload
from roost.control.errors import ControlError
from roost.control.events import Accepted, Ended, LogLine, Ready
from roost.control.load import of_class
from roost.control.probe import knock
from roost.sdk.testing import AppClientError
from roost.wire.manifest import Manifest

LOGS_KEPT = 10_000
"""Lines in `AppSpawnInfo.logs`; of more the oldest are dropped."""
CONNECT_S = 5.0
ENDS_S = 10.0
"""How long the end of a run may take to be heard of; the server ends it anyway, because the stream is closed."""
NOT_YET = (404, 500)
"""What `GET /health` may answer while an app is on its way."""


def spawn(
    cls: type,
    *,
    auth: str = "public",
    on_log: Callable[[LogLine], None] = lambda line: None,
    target: Target | None = None,
    transport: httpx.BaseTransport | None = None,
) -> AppSpawnInfo:
    """Begin a run of this class at an address of its own; back when the server has taken it, which is before it answers: see `wait`.

    The server and key are those of the profile unless `target` says others. `on_log` is called in a thread. Raises ControlError: for what is
    wrong with the class before anything is sent, and for what the server refuses. `transport` replaces the network in tests.
    """
    where = target or config.resolve()
    if where.is_local and transport is None:
        knock(where)
    bundle = build(of_class(cls))
    api = Api(where, transport=transport)
    calls = httpx.Client(timeout=httpx.Timeout(None, connect=CONNECT_S), **trust(where), transport=transport)
    info = AppSpawnInfo(api, calls, on_log)
    try:
        upload(api, bundle.manifest, bundle.blobs)
        info.begin(bundle.manifest, auth)
    except BaseException:
        info.cancel()
        raise
    return info


class AppSpawnInfo:
    """Made by `spawn`. The run ends with `cancel`, at the end of a `with` block, and with this program."""

    def __init__(self, api: Api, calls: httpx.Client, on_log: Callable[[LogLine], None]) -> None:
        self.application = ""
        """owner/name."""
        self.url = ""
        self.logs: Queue[LogLine] = Queue(LOGS_KEPT)
        self.future: Future[None] = Future()
        """Done when the run has ended; its exception says why, if nobody here wanted it."""
        self._api = api
        self._calls = calls
        self._on_log = on_log
        self._taken: Future[None] = Future()
        self._ready: Future[None] = Future()
        self._cancelled = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cancel()

    @property
    def stream(self) -> Self:
        """What has `cancel`, for programs that were written for the original."""
        return self

    def begin(self, manifest: Manifest, auth: str) -> None:
        """Hand it in. Raises ControlError if the server does not take it."""
        # Of its own: two tests that run the same class at once must not get each other's app.
        session = secrets.token_hex(32)
        self._thread = threading.Thread(target=self._follow, args=(manifest, auth, session), name="roost-spawn", daemon=True)
        self._thread.start()
        futures.wait((self._taken, self.future), return_when=futures.FIRST_COMPLETED)
        if not self._taken.done():
            self.future.result()

    def wait(
        self,
        health_request_timeout: float = 30,
        startup_timeout: float = 60,
        health_check_interval: float = 0.5,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Until the app answers `GET /health`, at most `startup_timeout` seconds, in which its packages may have to be built too.

        Raises ControlError with the server's reason if it does not come up, AppClientError if the time is over or its health is another error.
        """
        until_s = monotonic() + startup_timeout
        while True:
            left_s = max(0.0, until_s - monotonic())
            futures.wait((self._ready, self.future), left_s, futures.FIRST_COMPLETED)
            if self.future.done():
                self.future.result()
                raise ControlError(f"The run of {self.application} was cancelled while somebody waited for it.")
            if self._ready.done() and self._is_healthy(min(health_request_timeout, max(1.0, left_s)), headers):
                return
            if monotonic() >= until_s:
                raise AppClientError(
                    f"{self.application} did not answer within startup_timeout={startup_timeout:g} s. "
                    "Its log says what it does; a first build of its packages may want more time.",
                    504,
                )
            futures.wait((self.future,), health_check_interval)

    def send(self, method: str, path: str, json: Any) -> httpx.Response:
        """Call an endpoint of it, with the profile's key."""
        url = self.url if path == "/" else self.url + path
        return self._calls.request(method, url, json=json, headers=self._key())

    def cancel(self) -> None:
        """End the run; back when it has ended. Twice is fine."""
        self._cancelled = True
        name = self.application.partition("/")[2]
        if name and not self.future.done():
            with suppress(ControlError):
                self._api.end_run(name)
        if self._thread is not None:
            self._thread.join(ENDS_S)
        self._calls.close()
        self._api.close()

    def _follow(self, manifest: Manifest, auth: str, session: str) -> None:
        try:
            with closing(run(self._api, manifest, auth=auth, session=session)) as events:
                for event in events:
                    match event:
                        case Accepted(application):
                            self._is_at(application, self.url or f"{self._api.target.host}/{application}")
                        case Ready():
                            self._is_at(event.application, event.url)
                            if not self._ready.done():
                                self._ready.set_result(None)
                        case LogLine():
                            self._keep(event)
                        case Ended(reason) if not self._cancelled:
                            raise ControlError(f"The run was ended: {reason}" if reason else "The run was ended.")
                        case _:
                            pass
                    if self._cancelled:
                        break
            self.future.set_result(None)
        except Exception as error:
            # After a cancellation whatever ends the stream is what was wanted.
            self.future.set_result(None) if self._cancelled else self.future.set_exception(error)

    def _is_at(self, application: str, url: str) -> None:
        self.application, self.url = application, url
        if not self._taken.done():
            self._taken.set_result(None)

    def _keep(self, line: LogLine) -> None:
        self._on_log(line)
        try:
            self.logs.put_nowait(line)
        except Full:
            with suppress(Empty):
                self.logs.get_nowait()
            self.logs.put_nowait(line)

    def _is_healthy(self, timeout_s: float, headers: Mapping[str, str] | None) -> bool:
        try:
            response = self._calls.get(f"{self.url}/health", headers={**self._key(), **(headers or {})}, timeout=timeout_s)
        except httpx.TransportError:
            return False
        if response.is_success or response.status_code in NOT_YET:
            return response.is_success
        raise AppClientError(f"{response.status_code} is the health of {self.application}", response.status_code, response.headers)

    def _key(self) -> dict[str, str]:
        key = self._api.target.key
        return {"authorization": f"Key {key}"} if key else {}
