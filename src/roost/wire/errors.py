"""Every error that a caller can see: one table of codes, one exception.

Two families never mix (spec: gateway-http.md §7): infrastructure errors are flat, `{"detail": text, "error_type": code}` with the
header `X-Fal-Error-Type`; answers of an app pass through untouched and never come from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Code:
    """One line of the table: the HTTP status and what it means to a caller."""

    name: str
    status: int
    meaning: str


def _table(*rows: Code) -> dict[str, Code]:
    return {row.name: row for row in rows}


CODES: Final = _table(
    # the public protocol's own (spec: gateway-http.md §7)
    Code("request_timeout", 504, "processing took longer than request_timeout, or a start deadline passed"),
    Code("startup_timeout", 504, "no runner became ready in time"),
    Code("runner_scheduling_failure", 503, "no machine has room for a runner of this app"),
    Code("runner_connection_timeout", 503, "the runner did not take the connection in time"),
    Code("runner_disconnected", 503, "the runner went away in the middle of the call"),
    Code("runner_connection_refused", 503, "the runner refused the connection"),
    Code("runner_connection_error", 503, "the connection to the runner failed"),
    Code("runner_incomplete_response", 502, "the runner went away after its response had begun"),
    Code("runner_server_error", 500, "the runner failed outside the app's own code"),
    Code("client_disconnected", 499, "the caller went away"),
    Code("client_cancelled", 499, "the request was cancelled"),
    Code("bad_request", 400, "the request is malformed"),
    Code("internal_error", 500, "a bug in the server"),
    Code("concurrent_requests_limit", 429, "too many requests at once"),
    # ours, for what the public protocol answers without a type
    Code("unauthorized", 401, "no key, or a key that is not valid"),
    Code("forbidden", 403, "the key is valid but may not do this"),
    Code("not_found", 404, "there is nothing under this name"),
    Code("method_not_allowed", 405, "this address does not take this method"),
    Code("bad_target", 412, "the address in x-fal-target-url is none of this server"),
    Code("not_implemented", 501, "this server does not have that yet"),
    Code("conflict", 409, "the state of things does not allow this now"),
    Code("payload_too_large", 413, "the body is larger than the server's limit"),
    Code("unprocessable", 422, "the body is well-formed but cannot be used"),
    Code("headers_too_large", 431, "the request's headers or address are longer than the limit"),
    Code("response_headers_too_large", 502, "the app's response headers are longer than 16 KB"),
    Code("queue_full", 429, "more requests wait than the caller allowed with fal_max_queue_length"),
    Code("server_stopping", 503, "the server is shutting down"),
    # what a deploy or run can end in
    Code("build_failed", 422, "the app's environment could not be built"),
    Code("setup_failed", 422, "the app's setup() raised or its process ended before it was ready"),
    Code("version_mismatch", 422, "the two sides run versions that cannot work together"),
    Code("unsatisfiable", 422, "no machine of this server could ever run this app"),
)


class RoostError(Exception):
    """An error with a code of the table: what went wrong and why in `detail`, what to do now in `hint`."""

    def __init__(self, code: str, detail: str, *, hint: str = "", status: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.hint = hint
        self.status = status if status is not None else CODES[code].status
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        """Headers that belong to this error's answer, names in lower case."""

    def body(self) -> dict[str, str]:
        """The JSON body of this error (spec: gateway-http.md §7); `hint` is ours and only there when it says something."""
        body = {"detail": self.detail, "error_type": self.code}
        if self.hint:
            body["hint"] = self.hint
        return body
