"""What a call can end in besides its result."""

from __future__ import annotations

from collections.abc import Mapping


class ClientError(Exception):
    """A call that brought no result: what happened and why in `detail`, what to do now in `hint`."""

    def __init__(self, detail: str, *, hint: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.detail} {self.hint}".rstrip()


class ConfigError(ClientError):
    """The settings on this machine name no server, or no key that could be one."""


class ClientConnectionError(ClientError):
    """Nobody answered, or the connection broke, and trying again did not help.

    `request_id` is that of the queued request, "" if there is none. A queued request is not lost: the server has it on disk.
    """

    def __init__(self, detail: str, *, hint: str = "", request_id: str = "") -> None:
        super().__init__(detail, hint=hint)
        self.request_id = request_id


class ClientHTTPError(ClientError):
    """The answer was an error: of the app, or of the server (then with an `error_type` of docs/reference/errors.md)."""

    def __init__(
        self,
        message: str,
        status_code: int,
        *,
        error_type: str | None = None,
        request_id: str = "",
        response_headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.message = message
        self.status_code = status_code
        self.error_type = error_type
        """None for what the app itself answered."""
        self.request_id = request_id
        self.response_headers = dict(response_headers or {})
        """By lower-case name."""
        self.content = content
        """The whole body: an app's 422 lists in it what is wrong with which field."""

    def __str__(self) -> str:
        return self.message


class ClientTimeoutError(ClientError, TimeoutError):
    """The caller's own `client_timeout` passed. A queued request was asked to cancel."""

    def __init__(self, timeout: float, request_id: str | None = None) -> None:
        super().__init__(
            f"Request {request_id} timed out after {timeout:g} seconds" if request_id else f"Request timed out after {timeout:g} seconds"
        )
        self.timeout = timeout
        self.request_id = request_id
