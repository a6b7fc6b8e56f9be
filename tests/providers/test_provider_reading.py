"""Numbers, durations and instants as strangers write them."""

import json
import math

import pytest
from hypothesis import given, strategies as st

from cross_instance.providers import reading

SECOND = 1_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1s", SECOND),
        ("6m0s", 360 * SECOND),
        ("12ms", 12_000),
        ("1h2m3.5s", 3_723_500_000),
        ("2m59.56s", 179_560_000),
        ("1d", 86_400 * SECOND),
        ("45.578569677s", 45_578_570),
        (" 20s ", 20 * SECOND),
        ("500µs", 500),
        ("0s", None),
        ("-1s", None),
        ("20", None),
        ("s", None),
        ("1 s", None),
        ("1e3s", None),
        ("nan", None),
        ("99999d", None),
        ("", None),
    ],
)
def test_durations(text: str, expected: int | None) -> None:
    assert reading.duration_of(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (12, 12),
        ("12", 12),
        (" 40,000 ", 40_000),
        ("15000.0", 15_000),
        (10**12, 10**12),
        (10**12 + 1, None),
        ("9" * 400, None),
        (-1, None),
        ("-1", None),
        (1.5, None),
        ("1.5", None),
        (math.nan, None),
        (math.inf, None),
        ("NaN", None),
        ("1e5", None),
        ("٣", None),
        (True, None),
        (None, None),
        ([1], None),
    ],
)
def test_counts(value: object, expected: int | None) -> None:
    assert reading.count_of(value) == expected


def test_instants() -> None:
    assert reading.http_date_of("Sun, 06 Nov 1994 08:49:37 GMT") == 784_111_777 * SECOND
    assert reading.http_date_of("Sun, 06 Nov 1994 08:49:37 -0000") == 784_111_777 * SECOND
    assert reading.rfc3339_of("1994-11-06T08:49:37Z") == 784_111_777 * SECOND
    assert reading.rfc3339_of("1994-11-06T09:49:37.25+01:00") == 784_111_777_250_000
    assert reading.rfc3339_of("1994-11-06T08:49:37") is None, "without an offset it may be any hour"
    assert reading.http_date_of("soon") is None


@given(st.text())
def test_no_text_makes_reading_raise(text: str) -> None:
    for read in (
        reading.duration_of,
        reading.seconds_of,
        reading.milliseconds_of,
        reading.http_date_of,
        reading.rfc3339_of,
        reading.count_of,
    ):
        found = read(text)
        assert found is None or isinstance(found, int)


@given(st.binary())
def test_no_bytes_make_decoding_raise(body: bytes) -> None:
    found = reading.decode_json(body)
    assert found is None or found == json.loads(body)


def test_deep_nesting_is_no_document() -> None:
    assert reading.decode_json(b"[" * 100_000) is None


@given(st.integers(1, 30 * 24 * 3600 * 1000))
def test_a_duration_reads_back_to_the_millisecond(milliseconds: int) -> None:
    minutes, rest = divmod(milliseconds, 60_000)
    assert reading.duration_of(f"{minutes}m{rest / 1000:.3f}s") == milliseconds * 1000
    assert reading.duration_of(f"{milliseconds}ms") == milliseconds * 1000
    assert reading.milliseconds_of(str(milliseconds)) == milliseconds * 1000
