"""What an app raises to answer with something else than its result; explained in roost/sdk/exceptions.py."""

from __future__ import annotations

from roost.sdk.exceptions import (
    AppException,
    CUDAOutOfMemoryException,
    FieldException,
    GPUException,
    GPUOutOfMemoryException,
    RequestCancelledException,
)

__all__ = [
    "AppException",
    "CUDAOutOfMemoryException",
    "FieldException",
    "GPUException",
    "GPUOutOfMemoryException",
    "RequestCancelledException",
]
