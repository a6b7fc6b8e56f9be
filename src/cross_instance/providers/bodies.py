"""What error bodies say: which limit was hit, how large it is, how long to wait, whether waiting helps at all.

1. Every provider's form is tried on every body: gateways and compatible servers mix them.
2. A limit is named only for a rejection: status 429, or a code that means one.
3. Where waiting does not help (no credit, a spend limit, a quota of zero, a request larger than the limit) the
   finding is `exhausted`, with the provider's own code where it has one; messages are never passed on.
"""

from __future__ import annotations

import re

import msgspec

from cross_instance.providers.presets import DEEPSEEK, charging
from cross_instance.providers.reading import count_of, decode_json, dig, duration_of, text_at
from cross_instance.rules.operations import DAY, MINUTE, Kind, Told

_REJECTIONS = frozenset({"slow_down", "rate_limit_error", "rate_limit_exceeded", "resource_exhausted"})
_RAMPED_UP = "slow_down"
"""OpenAI: the requests came too fast for the service, whatever the limit."""
_EXHAUSTED = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "enforced_spend_limit_reached",
        "billing_error",
    }
)
_SPEND_LIMIT = "_spend_limit_exceeded"
_PAYMENT_REQUIRED = 402
"""DeepSeek: insufficient balance."""
_TOO_MANY = 429
_LONGEST_MESSAGE = 8_192
"""Characters of a message that are searched: the figures stand at its start."""

_FIGURE = r"\d+(?:,\d{3})*"
_UNIT = r"(?P<unit>(?:input |output )?tokens|requests) per (?P<period>min|day)"
_LIMIT = (
    # OpenAI: "on tokens per min (TPM): Limit 30000, Used 18928, Requested 11159."
    re.compile(
        rf"{_UNIT}\w*(?: \(\w+\))?: limit:? (?P<limit>{_FIGURE})(?:, used:? (?P<used>{_FIGURE}))?", re.IGNORECASE
    ),
    # Anthropic: "the rate limit for your organization (...) of 40,000 input tokens per minute"
    re.compile(rf"\bof (?P<limit>{_FIGURE}) {_UNIT}(?P<used>)", re.IGNORECASE),
)
_KIND_BY_UNIT = {
    ("requests", "min"): Kind.REQUESTS,
    ("requests", "day"): Kind.REQUESTS_DAY,
    ("tokens", "min"): Kind.TOKENS,
    ("input tokens", "min"): Kind.INPUT_TOKENS,
    ("output tokens", "min"): Kind.OUTPUT_TOKENS,
}
_KIND_BY_PHRASE = (
    ("concurren", Kind.CONCURRENCY),  # Anthropic: "Number of concurrent connections has exceeded your rate limit"
    ("token rate limit", Kind.TOKENS),  # Azure
    ("call rate limit", Kind.REQUESTS),  # Azure
)
_KIND_BY_TYPE = {"tokens": Kind.TOKENS, "requests": Kind.REQUESTS}
"""OpenAI's `error.type` of a rate limit."""
_WAIT = re.compile(
    # OpenAI: "try again in 6m0s"; Gemini: "retry in 45.57s"; Azure: "retry after 54 seconds"
    r"(?:try again|retry) (?:in|after) (?:(?P<units>(?:[\d.]+(?:ms|[dhms]))+)|(?P<figure>[\d.]+) (?P<word>\w+))\b"
)
_UNIT_OF_WORD = {"millisecond": "ms", "second": "s", "minute": "m", "hour": "h"}
_QUOTA_OF_ZERO = re.compile(r"\blimit: 0\b")
_TOO_LARGE = "Request too large"
_LASTING = (Kind.REQUESTS_DAY, Kind.INPUT_TOKENS, Kind.REQUESTS)
"""Of several violated quotas the one named is the one that takes longest to recover."""


class Finding(msgspec.Struct, frozen=True):
    """What one error body says, in the terms of `Signals`."""

    kind: Kind | None = None
    told: tuple[Told, ...] = ()
    retry_after: int | None = None
    exhausted: str | None = None


def read_error(provider: str, status: int, body: bytes) -> Finding:
    """Read the body of a response with an error status; never raises."""
    error = _error_of(body)
    message = (error if isinstance(error, str) else text_at(error, "message"))[:_LONGEST_MESSAGE]
    codes = _codes(error)
    quotas, delay = _google_details(provider, error)
    stated = _stated(provider, message)
    kind = None
    if status == _TOO_MANY or codes & _REJECTIONS:
        kind = _lasting(quotas) or _kind(provider, stated, message, codes)
    told = {limit.kind: limit for limit in (*stated, *quotas) if limit.limit}
    return Finding(kind, tuple(told.values()), delay or _wait(message), _exhausted(status, codes, message))


def _error_of(body: bytes) -> object:
    """The error itself: `{"error": …}`, the same in an array (Gemini), bare, or plain text."""
    root = decode_json(body)
    if isinstance(root, list) and root:
        root = root[0]
    if root is None:
        return body[:_LONGEST_MESSAGE].decode("utf-8", "replace")
    inner = dig(root, "error")
    return root if inner is None else inner


def _codes(error: object) -> frozenset[str]:
    places = (("code",), ("type",), ("status",), ("details", "error_code"))
    return frozenset(text_at(error, *place).lower() for place in places) - {""}


def _stated(provider: str, message: str) -> tuple[Told, ...]:
    for pattern in _LIMIT:
        match = pattern.search(message)
        if match is None:
            continue
        kind = _KIND_BY_UNIT.get((match["unit"].lower(), match["period"].lower()))
        limit = count_of(match["limit"])
        if kind is None or not limit:
            return ()
        used = count_of(match["used"] or "")
        return (_told(provider, kind, limit, None if used is None else max(0, limit - used)),)
    return ()


def _kind(provider: str, stated: tuple[Told, ...], message: str, codes: frozenset[str]) -> Kind | None:
    if stated:
        return stated[0].kind
    phrase = message.lower()
    for words, kind in _KIND_BY_PHRASE:
        if words in phrase:
            return kind
    for code, kind in _KIND_BY_TYPE.items():
        if code in codes:
            return kind
    if _RAMPED_UP in codes:
        return Kind.REQUESTS
    return Kind.CONCURRENCY if provider == DEEPSEEK else None


def _wait(message: str) -> int | None:
    match = _WAIT.search(message)
    if match is None:
        return None
    if match["units"]:
        return duration_of(match["units"])
    unit = _UNIT_OF_WORD.get(match["word"].lower().removesuffix("s"), "")
    return duration_of(match["figure"] + unit)


def _exhausted(status: int, codes: frozenset[str], message: str) -> str | None:
    for code in sorted(codes):
        if code in _EXHAUSTED or code.endswith(_SPEND_LIMIT):
            return code
    if status == _PAYMENT_REQUIRED:
        return "payment_required"
    if status == _TOO_MANY and message.startswith(_TOO_LARGE):
        return "request_too_large"
    if status == _TOO_MANY and _QUOTA_OF_ZERO.search(message):
        return "quota_of_zero"
    return None


def _google_details(provider: str, error: object) -> tuple[tuple[Told, ...], int | None]:
    """The quotas violated and the delay asked for, of a `google.rpc.Status`.

    A quota whose value is not given comes with a limit of 0: it names the kind, and is not told further.
    """
    details = dig(error, "details")
    quotas: list[Told] = []
    delay = None
    for detail in details if isinstance(details, list) else ():
        name = text_at(detail, "@type")
        if name.endswith("QuotaFailure"):
            violations = dig(detail, "violations")
            quotas += _quotas(provider, violations if isinstance(violations, list) else [])
        elif name.endswith("RetryInfo"):
            delay = duration_of(text_at(detail, "retryDelay"))
    return tuple(quotas), delay


def _quotas(provider: str, violations: list[object]) -> list[Told]:
    """The violations that a limit of ours can hold. A violated quota of requests is used up; one of tokens may only
    have too little left for this request."""
    quotas = []
    for violation in violations:
        kind = _quota_kind(text_at(violation, "quotaId").lower())
        if kind is not None:
            limit = count_of(dig(violation, "quotaValue")) or 0
            quotas.append(_told(provider, kind, limit, None if kind is Kind.INPUT_TOKENS else 0))
    return quotas


def _quota_kind(quota_id: str) -> Kind | None:
    """`GenerateRequestsPerDayPerProjectPerModel-FreeTier`: the name says what is counted, and over which time."""
    if "perminute" in quota_id:
        return Kind.INPUT_TOKENS if "token" in quota_id else Kind.REQUESTS
    if "perday" in quota_id and "token" not in quota_id:
        return Kind.REQUESTS_DAY
    return None


def _lasting(quotas: tuple[Told, ...]) -> Kind | None:
    violated = {quota.kind for quota in quotas}
    return next((kind for kind in _LASTING if kind in violated), None)


def _told(provider: str, kind: Kind, limit: int, remaining: int | None) -> Told:
    rule = charging(provider, kind)
    period = DAY if kind is Kind.REQUESTS_DAY else MINUTE
    return Told(kind, limit, remaining, None, period, rule.correct, rule.refund)
