"""Adaptive rate control by the reference's names, as far as it rests on what a call answers.

1. An error is judged by what it says of itself, never by words in its message.
"""

from __future__ import annotations

from cross_instance.retry import is_rate_limit

__all__ = ["is_rate_limit_error"]

_REJECTED = 429


def is_rate_limit_error(error: object) -> bool:
    """Whether a rate limit was met: an error of this package or of an SDK, a response, or a status as a number."""
    if isinstance(error, BaseException) and is_rate_limit(error):
        return True
    response = getattr(error, "response", error)
    return _REJECTED in (error, getattr(response, "status_code", None))
