"""What an app raises to answer with something else than its result (spec: app-class.md §1.6, app-lifecycle.md §5).

| raised | status | body |
|---|---|---|
| AppException(message, status_code) | status_code | `{"detail": message}` |
| FieldException(field, message) | 422 | `{"detail": [{"loc": ["body", field], "msg": message, "type": "value_error"}]}` |
| RequestCancelledException(message) | 499 | `{"detail": message}` |
| GPUException and its family | 503 | `{"detail": "GPU error"}`, and the runner is replaced |
| anything else | 500 | `{"detail": "Internal Server Error"}`, and the traceback goes to the app's log |
"""

from __future__ import annotations

GPU_ERROR = "GPU error"
CUDA_OUT_OF_MEMORY = "CUDA error: out of memory"
CANCELLED = "Request cancelled by the client."


class AppException(Exception):
    """Answer with `status_code` and `{"detail": message}`."""

    def __init__(self, message: str, status_code: int = 500) -> None:
        super().__init__(message, status_code)
        self.message = message
        self.status_code = status_code

    def __str__(self) -> str:
        return self.message


class FieldException(Exception):
    """Answer as if `field` of the input had failed validation: 422 with pydantic's shape of errors.

    `billable_units`, if not zero, is sent as `x-fal-billable-units`.
    """

    def __init__(
        self, field: str, message: str, status_code: int = 422, type: str = "value_error", billable_units: int | float = 0
    ) -> None:
        super().__init__(field, message, status_code, type, billable_units)
        self.field = field
        self.message = message
        self.status_code = status_code
        self.type = type
        self.billable_units = billable_units

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"

    def to_pydantic_format(self) -> list[dict[str, object]]:
        """The error as pydantic lists them."""
        return [{"loc": ["body", self.field], "msg": self.message, "type": self.type}]


class RequestCancelledException(Exception):
    """Answer 499: the call was cancelled and this runner is clean. Raised without a message, the detail is empty."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(*(() if message is None else (message,)))
        self.message = CANCELLED if message is None else message


class GPUException(AppException):
    """Answer 503: the GPU is in a bad state, this runner must go."""

    def __init__(self, message: str = GPU_ERROR, status_code: int = 503) -> None:
        super().__init__(message, status_code)


class GPUOutOfMemoryException(GPUException):
    """Answer 503: the GPU's memory is full."""


class CUDAOutOfMemoryException(GPUOutOfMemoryException):
    """Answer 503: CUDA's memory is full."""

    def __init__(self, message: str = CUDA_OUT_OF_MEMORY, status_code: int = 503) -> None:
        super().__init__(message, status_code)


_GPU_WORDS = ("cuda", "cudnn", "nvml", "nccl", "cublas", "cufft", "cusolver", "cusparse", "triton")
_OUT_OF_MEMORY = (
    ("CUDA", "out of memory"),
    ("NVML_SUCCESS == r INTERNAL ASSERT FAILED",),  # what torch says when it asks NVML about a full card
    ("CUDNN_STATUS_INTERNAL_ERROR",),
    ("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED.",),
)


def gpu_verdict(error: BaseException) -> str | None:
    """What to tell the caller if this exception of a library comes from the GPU; None if it does not look like it."""
    text = str(error)
    if isinstance(error, RuntimeError) and any(all(word in text for word in words) for words in _OUT_OF_MEMORY):
        return CUDA_OUT_OF_MEMORY
    lowered = text.lower()
    return GPU_ERROR if any(word in lowered for word in _GPU_WORDS) else None
