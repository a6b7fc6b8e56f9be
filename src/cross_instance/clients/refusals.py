"""Answers that this machine gives in the provider's place, in a form that the provider's SDK understands.

A permit that cannot be had becomes a response, not an exception: an SDK wraps an exception of its transport as a
connection error and tries again, while a 429 with `x-should-retry: false` becomes its own `RateLimitError` at once.

| what | status | `code` in the body |
|---|---|---|
| no permit in time | 429 | `RATE_LIMIT_EXCEEDED` |
| one request exceeds a limit by itself | 413 | `REQUEST_TOO_LARGE` |
| the task that asks has another owner by now | 409 | `STALE_TASK` |
| an `X-CI-...` header is wrong | 400 | `BAD_REQUEST` |
"""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any

import msgspec

from cross_instance.errors import PermitError, RateLimitExceeded, RequestTooLarge
from cross_instance.rules.operations import SECOND

_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
_GOOGLE_STATUS: dict[int, str] = {HTTPStatus.TOO_MANY_REQUESTS: "RESOURCE_EXHAUSTED", HTTPStatus.CONFLICT: "ABORTED"}


class Refusal(msgspec.Struct, frozen=True):
    """One such answer: status, error code, a sentence for people, and figures for programs."""

    status: int
    code: str
    message: str
    figures: dict[str, Any] = {}
    retry_after: float | None = None
    """Seconds."""

    def headers(self) -> dict[str, str]:
        """JSON that is not to be retried by the SDK, with the wait where there is one."""
        headers = {"content-type": "application/json", "x-should-retry": "false"}
        if self.retry_after is not None:
            headers["retry-after"] = str(math.ceil(self.retry_after))
            headers["retry-after-ms"] = str(math.ceil(self.retry_after * 1000))
        return headers

    def body(self, provider: str) -> bytes:
        """The error as the provider would write it; OpenAI's and Anthropic's forms go into one."""
        return json.dumps(self._google() if provider == "gemini" else self._common()).encode()

    def _common(self) -> dict[str, Any]:
        kind = "rate_limit_error" if self.status == HTTPStatus.TOO_MANY_REQUESTS else "invalid_request_error"
        error = {"type": kind, "code": self.code, "message": self.message, "param": None, **self.figures}
        return {"type": "error", "error": error}

    def _google(self) -> dict[str, Any]:
        metadata = {key: str(value) for key, value in self.figures.items()}
        details: list[dict[str, Any]] = [{"@type": _ERROR_INFO, "reason": self.code, "metadata": metadata}]
        if self.retry_after is not None:
            details.append({"@type": _RETRY_INFO, "retryDelay": f"{self.retry_after:.3f}s"})
        status = _GOOGLE_STATUS.get(self.status, "INVALID_ARGUMENT")
        return {"error": {"code": self.status, "message": self.message, "status": status, "details": details}}


def refused(error: PermitError) -> Refusal:
    """The answer for a permit that was not given."""
    message, figures = str(error), _figures(error)
    if isinstance(error, RateLimitExceeded):
        return Refusal(HTTPStatus.TOO_MANY_REQUESTS, error.code, message, figures, error.retry_after)
    if isinstance(error, RequestTooLarge):
        return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error.code, message, figures)
    return Refusal(HTTPStatus.CONFLICT, "STALE_TASK", message, figures)


def _figures(error: PermitError) -> dict[str, Any]:
    figures: dict[str, Any] = {"provider": error.provider, "model": error.model, "retry_after": error.retry_after}
    if error.limit is not None:
        figures |= {
            "limit": error.limit.kind.value,
            "limit_amount": error.limit.amount,
            "limit_seconds": error.limit.period / SECOND,
            "limit_available": error.limit.available,
            "limit_source": error.limit.source.value,
        }
    return figures
