"""The table of exceptions: what a raise in an app answers (spec: app-class.md §1.6, app-lifecycle.md §5)."""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections.abc import Mapping
from typing import Any, cast

from fastapi import FastAPI
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from roost.sdk.exceptions import AppException, FieldException, RequestCancelledException, gpu_verdict

UNITS = "x-fal-billable-units"
_NOTHING_BILLED = {UNITS: "0"}


def add_handlers(app: FastAPI) -> None:
    """Register a handler for each kind of exception that has an answer of its own. The rest ends in `last_resort`."""
    handlers: dict[type[Exception], Any] = {
        RequestValidationError: _invalid_input,
        HTTPException: _http,
        AppException: _app,
        FieldException: _field,
        RequestCancelledException: _cancelled,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


# `async def`, all of them: Starlette sends a plain function to a thread.


async def _invalid_input(request: Request, error: RequestValidationError) -> Response:
    return JSONResponse({"detail": presentable(error.errors())}, 422, _NOTHING_BILLED)


async def _http(request: Request, error: HTTPException) -> Response:
    if error.status_code == 404 and error.detail == "Not Found":
        return JSONResponse({"detail": f"Path {request.scope['path']} not found"}, 404, _NOTHING_BILLED)
    if error.status_code < 200 or error.status_code in (204, 205, 304):
        return Response(status_code=error.status_code, headers=error.headers)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


async def _app(request: Request, error: AppException) -> Response:
    return JSONResponse({"detail": error.message}, error.status_code)


async def _field(request: Request, error: FieldException) -> Response:
    headers: dict[str, str] = {}
    if error.billable_units:
        # Formatting is the check: units that are no number are the app's bug and end as a 500.
        headers[UNITS] = format(error.billable_units, ".0f" if isinstance(error.billable_units, int) else ".8f")
    return JSONResponse({"detail": error.to_pydantic_format()}, error.status_code, headers)


async def _cancelled(request: Request, error: RequestCancelledException) -> Response:
    return JSONResponse({"detail": str(error)}, 499)


def last_resort(error: Exception) -> Response:
    """The answer to an exception that nobody expected; its traceback goes to the app's log as one line of JSON.

    503 tells the platform to replace the runner: a GPU in a bad state does not heal.
    """
    print_traceback(error)
    verdict = gpu_verdict(error)
    if verdict is not None:
        return JSONResponse({"detail": verdict}, 503)
    return JSONResponse({"detail": "Internal Server Error"}, 500)


def print_traceback(error: BaseException) -> None:
    """One line of JSON on stdout, `{"traceback": ...}`, with the lines in reverse: what was raised comes first."""
    lines = "".join(traceback.format_exception(type(error), error, error.__traceback__)).splitlines()
    sys.stdout.write(json.dumps({"traceback": "\n".join(reversed(lines))}) + "\n")
    sys.stdout.flush()


def presentable(value: Any) -> Any:
    """The value as JSON can show it: binary as `<binary N bytes>`, floats that JSON lacks as text, anything foreign as FastAPI would."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<binary {len(cast('bytes', value))} bytes>"
    if isinstance(value, Mapping):
        return {str(key): presentable(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [presentable(item) for item in cast("list[Any]", value)]
    try:
        return presentable(jsonable_encoder(value))
    except Exception:
        # Whatever the caller sent, the answer is that it was invalid, not that we cannot say so.
        return repr(value)
