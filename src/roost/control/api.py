"""The control plane API of one server, as blocking calls: the table of docs/internals/contracts.md, line by line.

Every failure is a ControlError: Unreachable when nobody answered, LostContact when a stream broke, else the server's own words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from typing_extensions import Self

from roost.client.config import Target
from roost.client.lighthttp import httpx
from roost.client.trust import trust
from roost.control.errors import ControlError, LostContact, Unreachable
from roost.control.probe import LOCAL_CONNECT_S, nobody_there

Json = dict[str, Any]

REMOTE_CONNECT_S = 5.0
SILENCE_S = 10.0
"""Streams carry a beat every 2 s; without one for this long the server is gone."""


class Api:
    """A connection to one server. Close it, or use it with `with`.

    `transport` replaces the network in tests.
    """

    def __init__(self, target: Target, *, transport: httpx.BaseTransport | None = None) -> None:
        self.target = target
        headers = {"user-agent": "roost-control", "accept": "application/json"}
        if target.key:
            headers["authorization"] = f"Key {target.key}"
        self._http = httpx.Client(
            base_url=target.host,
            headers=headers,
            timeout=httpx.Timeout(60.0, connect=LOCAL_CONNECT_S if target.is_local else REMOTE_CONNECT_S),
            **trust(target),
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # server

    def health(self) -> Json:
        # Without keep-alive: during a planned restart an old connection would ask the old server for ever.
        return self.call("GET", "/health", headers={"connection": "close"})

    def whoami(self) -> Json:
        return self.call("GET", "/v1/whoami")

    def doctor(self) -> list[Json]:
        return self.call("GET", "/v1/doctor")["checks"]

    def restart(self) -> Stream:
        return self.stream("POST", "/v1/restart")

    # blobs and deploys

    def missing_blobs(self, hashes: Iterable[str]) -> list[str]:
        return self.call("POST", "/v1/blobs/missing", body={"hashes": list(hashes)})["missing"]

    def put_blob(self, sha256: str, chunks: Iterable[bytes], size: int) -> None:
        headers = {"content-length": str(size), "content-type": "application/octet-stream"}
        self.send("PUT", f"/v1/blobs/{sha256}", content=iter(chunks), headers=headers)

    def deploy(self, body: Json) -> Stream:
        return self.stream("POST", "/v1/deploy", body=body)

    def run(self, body: Json) -> Stream:
        return self.stream("POST", "/v1/run", body=body)

    def end_run(self, name: str) -> None:
        self.send("DELETE", f"/v1/run/{quote(name, safe='')}")

    # apps

    def apps(self) -> list[Json]:
        return self.call("GET", "/v1/apps")["apps"]

    def app(self, application: str) -> Json:
        return self.call("GET", app_path(application))

    def scale(self, application: str, changes: Json) -> Json:
        return self.call("PATCH", app_path(application), body=changes)

    def delete_app(self, application: str) -> str:
        return self.call("DELETE", app_path(application))["deleted"]

    def app_logs(self, application: str, *, follow: bool = False, lines: int | None = None, since_ms: int | None = None) -> Stream:
        return self.stream("GET", f"{app_path(application)}/logs", params=_log_params(follow, lines, since_ms), patient=True)

    # runners

    def runners(self, application: str = "", since_ms: int | None = None) -> list[Json]:
        return self.call("GET", "/v1/runners", params=_given(app=application or None, since=since_ms))["runners"]

    def stop_runner(self, runner_id: str) -> Json:
        return self.call("POST", f"/v1/runners/{quote(runner_id, safe='')}/stop")

    def kill_runner(self, runner_id: str) -> Json:
        return self.call("POST", f"/v1/runners/{quote(runner_id, safe='')}/kill")

    def runner_logs(self, runner_id: str, *, follow: bool = False, lines: int | None = None, since_ms: int | None = None) -> Stream:
        return self.stream(
            "GET", f"/v1/runners/{quote(runner_id, safe='')}/logs", params=_log_params(follow, lines, since_ms), patient=True
        )

    # keys and builds

    def keys(self) -> list[Json]:
        return self.call("GET", "/v1/keys")["keys"]

    def create_key(self, alias: str, scope: str) -> Json:
        return self.call("POST", "/v1/keys", body={"alias": alias, "scope": scope})

    def revoke_key(self, key_id: str) -> None:
        self.send("DELETE", f"/v1/keys/{quote(key_id, safe='')}")

    def builds(self) -> list[Json]:
        return self.call("GET", "/v1/builds")["builds"]

    def prune_builds(self, everything: bool) -> Json:
        return self.call("POST", "/v1/builds/prune", body={"all": everything})

    def build_log(self, key: str) -> str:
        return self.send("GET", f"/v1/builds/{quote(key, safe='')}/log").text

    # how

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        """One call whose answer is a JSON object."""
        response = self.send(method, path, json=body, params=params, headers=headers)
        try:
            value = response.json()
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ControlError(
                f"{self.target.host} answered {method} {path} with something that is not JSON.", hint="Is this address a roost server?"
            )
        return value

    def stream(
        self, method: str, path: str, *, body: Json | None = None, params: Mapping[str, str] | None = None, patient: bool = False
    ) -> Stream:
        """Open an NDJSON answer; returns when the server has begun to answer.

        The stream raises LostContact if the connection breaks or is silent for SILENCE_S; `patient` ones (logs) may be silent for ever.
        """
        timeout = httpx.Timeout(self._http.timeout.write, connect=self._http.timeout.connect, read=None if patient else SILENCE_S)
        with self._errors_as_ours():
            # Not kept: after a restart, who asked again on an old connection would keep the old server alive as a go-between.
            request = self._http.build_request(method, path, json=body, params=params, timeout=timeout, headers={"connection": "close"})
            response = self._http.send(request, stream=True)
            if response.is_error:
                response.read()
        if response.is_error:
            raise self._refusal(response)
        return Stream(response)

    def send(self, method: str, path: str, **request: Any) -> httpx.Response:
        with self._errors_as_ours():
            response = self._http.request(method, path, **request)
        if response.is_error:
            raise self._refusal(response)
        return response

    @contextmanager
    def _errors_as_ours(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            raise self._unreachable(exc) from exc
        except httpx.TransportError as exc:
            raise Unreachable(f"The connection to {self.target.host} broke ({_reason(exc)}).", hint="Run the same command again.") from exc

    def _unreachable(self, exc: httpx.TransportError) -> Unreachable:
        host, text = self.target.host, str(exc)
        if "SSL" in text or "certificate" in text.lower():
            return Unreachable(
                f"No safe connection to {host}: {text}", hint="Check the certificate, or whether the address should begin with http://."
            )
        if "Name or service not known" in text or "getaddrinfo" in text or "name resolution" in text or "nodename" in text:
            return Unreachable(f"The name in {host} leads nowhere.", hint="Check ROOST_HOST, --host or the profile.")
        return nobody_there(self.target)

    def _refusal(self, response: httpx.Response) -> ControlError:
        target = self.target
        if response.status_code == 401:
            return _key_refused(target)
        try:
            body = response.json()
            detail = body["detail"]
        except (ValueError, KeyError, TypeError):
            words = response.text.strip()[:300]
            where = f"{response.request.method} {response.request.url.path}"
            detail, body = f"{target.host} answered {where} with {response.status_code}{': ' if words else ''}{words}", {}
        text = detail if isinstance(detail, str) else json.dumps(detail)
        hint = body.get("hint") or ("This key may not do that; an ADMIN key may." if response.status_code == 403 else "")
        return ControlError(text, hint=str(hint), code=str(body.get("error_type") or ""), status=response.status_code)


class Stream:
    """The JSON objects of an open NDJSON answer, as they arrive. Closing it closes the connection, which ends a run."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._objects = _json_lines(response.iter_bytes())

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Json:
        try:
            return next(self._objects)
        except httpx.TransportError as exc:
            raise LostContact(f"The connection to {self._response.request.url.host} broke ({_reason(exc)}).") from exc

    def close(self) -> None:
        self._response.close()


def _key_refused(target: Target) -> ControlError:
    where_keys_are = "`roost keys create` on the server's machine makes one; set it as ROOST_KEY or in the profile."
    if not target.key:
        return ControlError(f"{target.host} wants a key, and there is none.", hint=where_keys_are, code="unauthorized", status=401)
    detail = f"{target.host} does not accept the key {target.key_id} (from {target.key_from})."
    return ControlError(detail, hint=f"It was revoked, or belongs to another server: {where_keys_are}", code="unauthorized", status=401)


def _json_lines(chunks: Iterable[bytes]) -> Iterator[Json]:
    """One object a line. Split at the byte 0x0A only: text may hold U+2028 and others that `splitlines` would cut at."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)
    if rest.strip():
        yield json.loads(rest)


def app_path(application: str) -> str:
    owner, _, name = application.partition("/")
    return f"/v1/apps/{quote(owner, safe='')}/{quote(name, safe='')}"


def _log_params(follow: bool, lines: int | None, since_ms: int | None) -> dict[str, str]:
    return _given(follow=1 if follow else 0, lines=lines, since=since_ms)


def _given(**values: object) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def _reason(exc: Exception) -> str:
    return str(exc).rstrip(".") or type(exc).__name__
