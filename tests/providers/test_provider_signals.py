"""Signals: every header and error form that providers send becomes an observation."""

import json

import pytest
from hypothesis import given, strategies as st

from cross_instance.providers.signals import outcome_of, read_signals, worth_retrying
from cross_instance.rules.operations import DAY, MINUTE, NO_SIGNALS, SECOND, Kind, Outcome, Signals, Told

NOW = 1_795_254_600 * SECOND
"""2026-11-21 09:50:00 UTC."""
OPENAI_QUOTA = "You exceeded your current quota, please check your plan and billing details."


def read(provider: str, status: int, headers: dict[str, str] | None = None, body: object = None) -> Signals:
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return read_signals(provider, status, headers or {}, raw, NOW)


def openai_error(message: str, code: str | None, kind: str | None = None) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic_error(kind: str, message: str, **more: object) -> dict[str, object]:
    return {"type": "error", "error": {"type": kind, "message": message, **more}, "request_id": "req_1"}


def gemini_error(*details: dict[str, object], message: str = "You exceeded your current quota.") -> dict[str, object]:
    return {"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": list(details)}}


def quota_failure(*violations: tuple[str, str | None]) -> dict[str, object]:
    return {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [
            {"quotaMetric": "generativelanguage.googleapis.com/x", "quotaId": quota_id}
            | ({} if value is None else {"quotaValue": value})
            for quota_id, value in violations
        ],
    }


def retry_info(delay: str) -> dict[str, object]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


# --- limits in headers -----------------------------------------------------------------------------------------


def limits(limit: str, remaining: str | None, reset: str | None, name: str = "requests") -> dict[str, str]:
    fields = {"limit": limit, "remaining": remaining, "reset": reset}
    return {f"X-RateLimit-{field}-{name}": value for field, value in fields.items() if value is not None}


def test_openai_states_requests_and_tokens() -> None:
    headers = limits("500", "499", "120ms") | limits("30000", "29967", "66ms", "tokens")
    assert read("openai", 200, headers).told == (
        Told(Kind.REQUESTS, 500, 499, 120_000, correct=False, refund=False),
        Told(Kind.TOKENS, 30_000, 29_967, 66_000, correct=False, refund=False),
    )


def test_told_limits_carry_the_provider_s_charging_rule() -> None:
    headers = limits("500", "499", "120ms")
    assert read("openai", 200, headers).told[0].refund is False
    assert read("gateway", 200, headers).told[0].refund is True


@pytest.mark.parametrize(
    ("remaining", "reset", "expected"),
    [
        ("499", "1s", 1_000_000),
        ("0", "1m0s", 60_000_000),
        ("499", "12ms", 12_000),
        ("499", "0s", 0),
        ("499", "1.5", 1_500_000),
        ("499", None, None),
        ("499", "whenever", None),
        (None, "1s", 1_000_000),
    ],
)
def test_resets_in_every_form(remaining: str | None, reset: str | None, expected: int | None) -> None:
    (told,) = read("openai", 200, limits("500", remaining, reset)).told
    assert told.reset == expected
    assert told.period == MINUTE


def test_a_long_reset_that_implies_a_day_is_a_daily_limit() -> None:
    headers = limits("10000", "9959", "5m54.24s") | limits("200000", "199000", "300ms", "tokens")
    day, minute = read("openai", 200, headers).told
    assert (day.kind, day.limit, day.period, day.remaining) == (Kind.REQUESTS_DAY, 10_000, DAY, 9_959)
    assert (minute.kind, minute.period) == (Kind.TOKENS, MINUTE)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(limits("150000", "149984", "6m0s", "tokens"), id="openai's own example agrees with nothing"),
        pytest.param(limits("10000", "9999", "8.64s"), id="one request of a day's, or a window's early moment"),
        pytest.param(limits("10000", "9998", "12.96s"), id="a day's use is rounded up to whole requests"),
        pytest.param(limits("100", "100", "2m0s"), id="full, yet long from reset"),
        pytest.param(limits("100", None, "2m0s"), id="too long for a minute"),
        pytest.param(limits("2000000", "1990000", "7m12s", "tokens"), id="tokens per day: no such limit here"),
        pytest.param(limits("-1", "-1", "1s"), id="azure: -1"),
        pytest.param(limits("0", "0", "1s"), id="azure: 0"),
        pytest.param(limits("500", "-1", "1s"), id="remaining -1"),
        pytest.param(limits("500", "501", "1s"), id="more left than there is"),
        pytest.param(limits("2147483647000", "1", "1s"), id="beyond 10^12"),
        pytest.param(limits("NaN", "1", "1s"), id="not a number"),
        pytest.param(limits("inf", "1", "1s"), id="infinite"),
        pytest.param(limits("1" * 5000, "1", "1s"), id="thousands of digits"),
        pytest.param(limits("", "", ""), id="empty"),
        pytest.param({"x-ratelimit-remaining-requests": "5"}, id="no limit named"),
    ],
)
def test_statements_that_cannot_be_true_are_dropped(headers: dict[str, str]) -> None:
    assert read("openai", 200, headers) == NO_SIGNALS


def test_azure_states_requests_per_ten_seconds() -> None:
    headers = limits("20", "19", None) | limits("20000", "19000", None, "tokens")
    requests, tokens = read("azure", 200, headers).told
    assert (requests.limit, requests.period) == (20, 10 * SECOND), "a deployment of 120 requests per minute"
    assert (tokens.limit, tokens.period) == (20_000, MINUTE)


def anthropic_limits(name: str, limit: str, remaining: str, reset: str, tier: str = "ratelimit") -> dict[str, str]:
    start = f"anthropic-{tier}-{name}"
    return {f"{start}-limit": limit, f"{start}-remaining": remaining, f"{start}-reset": reset}


def test_anthropic_states_four_kinds_with_instants() -> None:
    headers = (
        anthropic_limits("requests", "50", "49", "2026-11-21T09:50:01Z")
        | anthropic_limits("tokens", "38000", "38000", "2026-11-21T09:50:00Z")
        | anthropic_limits("input-tokens", "30000", "27000", "2026-11-21T09:50:06Z")
        | anthropic_limits("output-tokens", "8000", "8000", "2026-11-21T10:50:00+01:00")
    )
    told = read("anthropic", 200, headers | {"date": "Sat, 21 Nov 2026 09:50:00 GMT"}).told
    assert told == (
        Told(Kind.REQUESTS, 50, 49, SECOND),
        Told(Kind.TOKENS, 38_000, 38_000, 0),
        Told(Kind.INPUT_TOKENS, 30_000, 27_000, 6 * SECOND),
        Told(Kind.OUTPUT_TOKENS, 8_000, 8_000, 0),
    )


def test_without_a_date_our_own_clock_measures_the_reset() -> None:
    (told,) = read("anthropic", 200, anthropic_limits("requests", "50", "0", "2026-11-21T09:50:30Z")).told
    assert told.reset == 1_795_254_630 * SECOND - NOW


def test_an_instant_just_passed_is_now() -> None:
    (told,) = read("anthropic", 200, anthropic_limits("requests", "50", "50", "2020-01-01T00:00:00Z")).told
    assert told.reset == 0


def test_priority_tokens_count_where_the_plain_ones_are_absent() -> None:
    reset = "2026-11-21T09:50:01Z"
    priority = anthropic_limits("input-tokens", "10000", "9000", reset, "priority")
    priority |= anthropic_limits("output-tokens", "2000", "2000", reset, "priority")
    plain = anthropic_limits("input-tokens", "30000", "30000", reset)
    found = {told.kind: told.limit for told in read("anthropic", 200, priority | plain).told}
    assert found == {Kind.INPUT_TOKENS: 30_000, Kind.OUTPUT_TOKENS: 2_000}


def test_header_names_are_read_in_any_case() -> None:
    upper = {name.upper(): value for name, value in limits("500", "499", "120ms").items()}
    assert read("openai", 200, upper) == read("openai", 200, limits("500", "499", "120ms"))


@given(st.integers(1, 100_000), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_minute_s_bucket_or_window_never_looks_like_a_day(limit: int, used: float, moment: float) -> None:
    taken = round(limit * used)
    bucket = limits(str(limit), str(limit - taken), f"{round(60_000 * taken / limit)}ms")
    window = limits(str(limit), str(limit - taken), f"{60 * moment:.3f}s")
    for headers in (bucket, window):
        assert all(told.period == MINUTE for told in read("openai", 200, headers).told)


@given(st.integers(100, 100_000), st.floats(0.0, 1.0))
def test_a_day_s_bucket_never_looks_like_a_minute(limit: int, used: float) -> None:
    taken = max(1.0, limit * used)
    remaining = int(limit - taken)
    headers = limits(str(limit), str(remaining), f"{86_400 * taken / limit:.3f}s")
    assert all(told.kind is Kind.REQUESTS_DAY for told in read("openai", 200, headers).told)


# --- how long to wait ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "20"}, 20 * SECOND),
        ({"retry-after": "0.5"}, SECOND // 2),
        ({"retry-after-ms": "1250"}, 1_250_000),
        ({"retry-after-ms": "1250", "retry-after": "2"}, 1_250_000),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2 * SECOND),
        ({"retry-after": "Sat, 21 Nov 2026 09:50:30 GMT", "date": "Sat, 21 Nov 2026 09:50:00 GMT"}, 30 * SECOND),
        ({"retry-after": "Sat, 21 Nov 2026 09:50:30 GMT"}, 1_795_254_630 * SECOND - NOW),
        ({"retry-after": "Sat, 21 Nov 2020 09:50:30 GMT"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "tomorrow"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], expected: int | None) -> None:
    assert read("openai", 429, headers).retry_after == expected


def test_a_success_asks_for_no_wait() -> None:
    assert read("openai", 200, {"retry-after": "20"}) == NO_SIGNALS


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Please try again in 174ms. Visit …", 174_000),
        ("Please try again in 18.642s. Visit …", 18_642_000),
        ("Please try again in 6m0s.", 360 * SECOND),
        ("Please retry in 45.578569677s.", 45_578_570),
        ("Please retry after 54 seconds.", 54 * SECOND),
        ("Please retry after 1 second.", SECOND),
        ("Please retry after 250 milliseconds.", 250_000),
        ("Please try again in 2 parsecs.", None),
        ("Please try again later.", None),
    ],
)
def test_the_wait_is_found_in_the_message_too(message: str, expected: int | None) -> None:
    assert read("openai", 429, body=openai_error(message, "rate_limit_exceeded")).retry_after == expected


def test_a_header_goes_before_the_message() -> None:
    body = openai_error("Please try again in 6m0s.", "rate_limit_exceeded")
    assert read("openai", 429, {"retry-after": "2"}, body).retry_after == 2 * SECOND


# --- which limit was hit ---------------------------------------------------------------------------------------

OPENAI_TPM = (
    "Rate limit reached for gpt-4.1 in organization org-x on tokens per min (TPM): Limit 30000, Used 18928, "
    "Requested 11159. Please try again in 174ms. Visit https://platform.openai.com/account/rate-limits to learn more."
)
OPENAI_RPM = (
    "Rate limit reached for gpt-4o-mini in organization org-x on requests per min (RPM): Limit 3, Used 3, Requested 1. "
    "Please try again in 20s."
)
OPENAI_RPD = (
    "Rate limit reached for gpt-4o in organization org-x on requests per day (RPD): Limit 10000, Used 10000, "
    "Requested 1. Please try again in 8.64s."
)
ANTHROPIC_ITPM = (
    "This request would exceed the rate limit for your organization (d3f27ff7-9afe) of 40,000 input tokens per minute. "
    "For details, refer to: https://docs.anthropic.com/en/api/rate-limits."
)
ANTHROPIC_CONNECTIONS = "Number of concurrent connections has exceeded your rate limit. Please try again later."
AZURE_CALLS = (
    "Requests to the Embeddings_Create Operation under Azure OpenAI API version 2023-06-01-preview have exceeded the "
    "call rate limit of your current OpenAI S0 pricing tier. Please retry after 54 seconds."
)
AZURE_TOKENS = AZURE_CALLS.replace("the call rate limit", "token rate limit")


@pytest.mark.parametrize(
    ("provider", "body", "kind", "told"),
    [
        (
            "openai",
            openai_error(OPENAI_TPM, "rate_limit_exceeded", "tokens"),
            Kind.TOKENS,
            (Told(Kind.TOKENS, 30_000, 11_072, correct=False, refund=False),),
        ),
        (
            "openai",
            openai_error(OPENAI_RPM, "rate_limit_exceeded", "requests"),
            Kind.REQUESTS,
            (Told(Kind.REQUESTS, 3, 0, correct=False, refund=False),),
        ),
        (
            "openai",
            openai_error(OPENAI_RPD, "rate_limit_exceeded", "requests"),
            Kind.REQUESTS_DAY,
            (Told(Kind.REQUESTS_DAY, 10_000, 0, period=DAY, correct=False, refund=False),),
        ),
        ("openai", openai_error("Rate limit reached.", "rate_limit_exceeded", "tokens"), Kind.TOKENS, ()),
        ("openai", openai_error("Slow down.", "slow_down"), Kind.REQUESTS, ()),
        (
            "anthropic",
            anthropic_error("rate_limit_error", ANTHROPIC_ITPM),
            Kind.INPUT_TOKENS,
            (Told(Kind.INPUT_TOKENS, 40_000),),
        ),
        (
            "anthropic",
            anthropic_error("rate_limit_error", ANTHROPIC_ITPM.replace("input tokens", "output tokens")),
            Kind.OUTPUT_TOKENS,
            (Told(Kind.OUTPUT_TOKENS, 40_000),),
        ),
        (
            "anthropic",
            anthropic_error("rate_limit_error", ANTHROPIC_ITPM.replace("40,000 input tokens", "50 requests")),
            Kind.REQUESTS,
            (Told(Kind.REQUESTS, 50),),
        ),
        ("anthropic", anthropic_error("rate_limit_error", ANTHROPIC_CONNECTIONS), Kind.CONCURRENCY, ()),
        ("anthropic", anthropic_error("rate_limit_error", "Your traffic grew too fast."), None, ()),
        ("azure", {"error": {"code": "429", "message": AZURE_CALLS}}, Kind.REQUESTS, ()),
        ("azure", {"error": {"code": "429", "message": AZURE_TOKENS}}, Kind.TOKENS, ()),
        ("deepseek", {"error": {"message": "Rate limit reached", "type": "rate_limit"}}, Kind.CONCURRENCY, ()),
        (
            "gemini",
            gemini_error(quota_failure(("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "10"))),
            Kind.REQUESTS,
            (Told(Kind.REQUESTS, 10, 0),),
        ),
        (
            "gemini",
            gemini_error(quota_failure(("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "250"))),
            Kind.REQUESTS_DAY,
            (Told(Kind.REQUESTS_DAY, 250, 0, period=DAY),),
        ),
        (
            "gemini",
            gemini_error(quota_failure(("GenerateContentInputTokensPerModelPerMinute-FreeTier", "250000"))),
            Kind.INPUT_TOKENS,
            (Told(Kind.INPUT_TOKENS, 250_000),),
        ),
        (
            "gemini",
            gemini_error(
                quota_failure(
                    ("GenerateContentInputTokensPerModelPerMinute-FreeTier", None),
                    ("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", None),
                    ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", None),
                )
            ),
            Kind.REQUESTS_DAY,
            (),
        ),
        ("gemini", gemini_error(quota_failure(("InputTokensPerModelPerDay", "5000000"))), None, ()),
        ("gemini", gemini_error(), None, ()),
        (
            "gemini",
            [gemini_error(quota_failure(("RequestsPerMinute", "60")))],
            Kind.REQUESTS,
            (Told(Kind.REQUESTS, 60, 0),),
        ),
        ("unheard-of", b"Too many concurrent requests", Kind.CONCURRENCY, ()),
        ("unheard-of", {"error": "rate limited"}, None, ()),
        ("unheard-of", {"message": "rate limited", "code": 1300}, None, ()),
        ("unheard-of", b"<html>429</html>", None, ()),
        ("unheard-of", b"", None, ()),
    ],
)
def test_the_limit_that_was_hit(provider: str, body: object, kind: Kind | None, told: tuple[Told, ...]) -> None:
    signals = read(provider, 429, body=body)
    assert (signals.kind, signals.told, signals.exhausted) == (kind, told, None)
    assert outcome_of(429, signals) is Outcome.REJECTED
    assert worth_retrying(429, signals)


def test_gemini_says_how_long_to_wait_in_its_details() -> None:
    body = gemini_error(quota_failure(("RequestsPerMinute", "60")), retry_info("26s"))
    assert read("gemini", 429, body=body).retry_after == 26 * SECOND


def test_a_limit_stated_in_headers_is_not_told_twice() -> None:
    body = openai_error(OPENAI_TPM, "rate_limit_exceeded", "tokens")
    (told,) = read("openai", 429, limits("40000", "0", "20s", "tokens"), body).told
    assert told.limit == 40_000


def test_a_429_that_names_nothing_hit_the_limit_with_nothing_left() -> None:
    headers = limits("500", "480", "1s") | limits("30000", "0", "60s", "tokens")
    assert read("openai", 429, headers).kind is Kind.TOKENS
    assert read("openai", 429, headers | limits("500", "0", "60s")).kind is None, "two are empty: it may be either"
    assert read("openai", 500, headers).kind is None, "not a rejection"


# --- where waiting does not help -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "status", "headers", "body", "exhausted"),
    [
        ("openai", 429, {}, openai_error(OPENAI_QUOTA, "insufficient_quota"), "insufficient_quota"),
        ("openai", 429, {}, openai_error(OPENAI_QUOTA, None, "insufficient_quota"), "insufficient_quota"),
        ("openai", 429, {}, openai_error("", "credit_balance_exhausted"), "credit_balance_exhausted"),
        ("openai", 429, {}, openai_error("", "project_spend_limit_exceeded"), "project_spend_limit_exceeded"),
        (
            "openai",
            429,
            {},
            openai_error("", "organization_usage_limit_exceeded"),
            "organization_usage_limit_exceeded",
        ),
        (
            "openai",
            429,
            {},
            openai_error(
                "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested "
                "31538. The input or output tokens must be reduced in order to run successfully.",
                "rate_limit_exceeded",
                "tokens",
            ),
            "request_too_large",
        ),
        (
            "anthropic",
            429,
            {},
            anthropic_error("rate_limit_error", "Spend limit.", details={"error_code": "enforced_spend_limit_reached"}),
            "enforced_spend_limit_reached",
        ),
        (
            "gemini",
            429,
            {},
            gemini_error(message="* Quota exceeded for metric: x, limit: 0, model: gemini-3-pro"),
            "quota_of_zero",
        ),
        ("deepseek", 402, {}, {"error": {"message": "Insufficient Balance"}}, "payment_required"),
        ("azure", 429, {"retry-after": "86400"}, None, "quota_exhausted"),
        ("azure", 429, {}, {"error": {"message": "Please retry after 86400 seconds."}}, "quota_exhausted"),
        ("openai", 429, {"x-should-retry": "false"}, None, "x-should-retry: false"),
        ("openai", 503, {"X-Should-Retry": "False"}, None, "x-should-retry: false"),
    ],
)
def test_exhausted_quota_is_not_retried(
    provider: str, status: int, headers: dict[str, str], body: object, exhausted: str
) -> None:
    signals = read(provider, status, headers, body)
    assert signals.exhausted == exhausted
    assert not worth_retrying(status, signals)


def test_a_request_too_large_still_tells_the_limit() -> None:
    message = "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 31538."
    signals = read("openai", 429, body=openai_error(message, "rate_limit_exceeded", "tokens"))
    assert [told.limit for told in signals.told] == [30_000]


def test_a_long_wait_is_a_rate_elsewhere_and_so_is_a_short_one_at_azure() -> None:
    assert read("anthropic", 429, {"retry-after": "86400"}).exhausted is None
    assert read("azure", 429, {"retry-after": "599"}).exhausted is None


def test_a_limit_that_only_begins_with_zero_is_not_zero() -> None:
    body = gemini_error(message="* Quota exceeded for metric: x, limit: 250, model: gemini-3-pro")
    assert read("gemini", 429, body=body).exhausted is None


def test_x_should_retry_says_nothing_about_other_errors() -> None:
    assert read("openai", 400, {"x-should-retry": "false"}).exhausted is None


# --- outcomes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "outcome", "retried"),
    [
        (200, None, Outcome.SUCCESS, False),
        (204, None, Outcome.SUCCESS, False),
        (429, None, Outcome.REJECTED, True),
        (503, openai_error("The server is overloaded.", "server_is_overloaded"), Outcome.OVERLOADED, True),
        (503, openai_error("Slow down.", "slow_down"), Outcome.REJECTED, True),
        (503, None, Outcome.OVERLOADED, True),
        (529, anthropic_error("overloaded_error", "Overloaded"), Outcome.OVERLOADED, True),
        (403, openai_error("Rate limit reached", "rate_limit_exceeded", "requests"), Outcome.REJECTED, True),
        (408, None, Outcome.TIMEOUT, False),
        (504, None, Outcome.TIMEOUT, False),
        (524, None, Outcome.TIMEOUT, False),
        (500, None, Outcome.ERROR, False),
        (502, None, Outcome.ERROR, False),
        (400, openai_error("Too many tokens", None), Outcome.ERROR, False),
        (401, None, Outcome.ERROR, False),
        (413, anthropic_error("request_too_large", "Request exceeds the maximum size"), Outcome.ERROR, False),
    ],
)
def test_outcomes(status: int, body: object, outcome: Outcome, retried: bool) -> None:
    signals = read("openai", status, body=body)
    assert outcome_of(status, signals) is outcome
    assert worth_retrying(status, signals) is retried


# --- anything at all -------------------------------------------------------------------------------------------

HEADER_NAMES = st.sampled_from(
    [
        "retry-after",
        "Retry-After-Ms",
        "x-should-retry",
        "date",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-reset",
    ]
)
ERROR_KEYS = st.sampled_from(
    [
        "error",
        "message",
        "code",
        "type",
        "status",
        "details",
        "@type",
        "violations",
        "quotaId",
        "quotaValue",
        "retryDelay",
    ]
)
ERROR_VALUES = st.sampled_from(
    ["x/google.rpc.QuotaFailure", "x/google.rpc.RetryInfo", "RequestsPerDay", "26s", OPENAI_TPM, ANTHROPIC_ITPM]
)
ERRORS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | ERROR_VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ERROR_KEYS, inner, max_size=4),
    max_leaves=10,
)


@given(
    provider=st.sampled_from(["openai", "anthropic", "gemini", "deepseek", "azure", "other"]),
    status=st.integers(100, 599),
    headers=st.dictionaries(HEADER_NAMES | st.text(), st.text() | st.integers().map(str) | st.floats().map(str)),
    body=st.binary() | ERRORS.map(lambda error: json.dumps(error).encode()),
)
def test_nothing_makes_it_raise_and_what_it_says_makes_sense(
    provider: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    signals = read_signals(provider, status, headers, body, NOW)
    outcome_of(status, signals)
    worth_retrying(status, signals)
    assert signals.retry_after is None or 0 < signals.retry_after <= 31 * DAY
    for told in signals.told:
        assert 0 < told.limit <= 10**12
        assert told.remaining is None or 0 <= told.remaining <= told.limit
        assert told.reset is None or told.reset >= 0
