"""What the test provider enforces and how it behaves, as frozen data.

1. Every value is checked when it is made; a wrong one raises `ConfigError` that names the option and the accepted form.
2. A limit or a fault is written in one of three ways: as a Python value, as JSON (admin endpoint, camelCase), or as a
   line of text (command line), `KIND:key=value,key=value`: `requests:amount=600,burst=20`, `500:first=3,last=5`.
3. Durations are seconds here; the limiter turns them into integer microseconds once.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, TypeVar, get_args

import msgspec

from cross_instance.errors import ConfigError
from cross_instance.testing.provider.latency import Constant, Latency

S = TypeVar("S", bound=msgspec.Struct)

SECOND = 1_000_000
"""Microseconds in a second."""

Provider = Literal["openai", "anthropic", "gemini"]

LimitKind = Literal["requests", "tokens", "input_tokens", "output_tokens", "concurrency"]
"""What a limit counts."""

Window = Literal["bucket", "fixed"]
"""How a limit refills: continuously (a token bucket), or all at once at the end of a fixed window."""

ErrorFault = Literal["429", "slow_down", "insufficient_quota", "500", "503", "529"]
"""The faults in which the provider answers with an error."""

DeliveryFault = Literal["cut_before", "cut_body", "slow_first_byte", "malformed", "stream_error"]
"""The faults in which it serves the request, but the answer does not arrive as it should."""

FaultKind = Literal[ErrorFault, DeliveryFault]

ERROR_FAULTS: tuple[str, ...] = get_args(ErrorFault)


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`amount` units per `period` seconds, for the models that match the glob `models`, all of them together.

    A bucket holds at most `burst` units (None: `amount`) and starts full. A fixed window starts anew at every multiple
    of `period` since the server's start. For concurrency `amount` requests run at once; period and burst mean nothing.
    `provider` restricts the limit to one provider ("*": each of them has it on its own).
    """

    kind: LimitKind
    amount: int
    period: float = 60.0
    burst: int | None = None
    window: Window = "bucket"
    models: str = "*"
    provider: Provider | Literal["*"] = "*"

    def __post_init__(self) -> None:
        _check_types(self)
        _check_count(f"{self.kind}.amount", self.amount)
        if self.burst is not None:
            _check_count(f"{self.kind}.burst", self.burst)
            _check(self.window == "bucket", f"{self.kind}.burst", "a fixed window has no burst; leave it out")
        form = "must be a number of seconds from 0.001 to a year, such as 60"
        _check(0.001 <= self.period <= 366 * 86_400, f"{self.kind}.period", form)

    @property
    def capacity(self) -> int:
        """The largest number of units that one request can ever take."""
        return self.amount if self.burst is None else self.burst

    @property
    def period_us(self) -> int:
        """The period in whole microseconds."""
        return round(self.period * SECOND)


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Something that goes wrong for the requests that meet every condition given.

    `first` and `last` are request numbers (1: the first one after the faults were set), `after` and `until` seconds
    since then, `probability` is drawn from the server's seed, `models` a glob. `retry_after` is sent as it stands, also
    when it makes no sense; `code` replaces the provider's error code; `seconds` is how long a slow first byte takes.
    """

    kind: FaultKind
    first: int = 1
    last: int | None = None
    after: float = 0.0
    until: float | None = None
    probability: float = 1.0
    models: str = "*"
    retry_after: str | None = None
    code: str | None = None
    seconds: float = 5.0

    def __post_init__(self) -> None:
        _check_types(self)
        _check_count(f"{self.kind}.first", self.first)
        if self.last is not None:
            _check_count(f"{self.kind}.last", self.last, least=self.first)
        _check(0.0 <= self.probability <= 1.0, f"{self.kind}.probability", "must be a number from 0 to 1")
        until = self.after + 1 if self.until is None else self.until
        _check(0 <= self.after < until, f"{self.kind}.after", "must be seconds, 0 <= after < until")
        _check(0 <= self.seconds <= 86_400, f"{self.kind}.seconds", "must be a number of seconds, a day at most")
        header = self.retry_after or ""
        form = "must be printable ASCII, as in a header"
        _check(header.isascii() and header.isprintable(), f"{self.kind}.retry_after", form)


class ProviderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything about one test provider. The defaults serve every request at once, without limits.

    `latency` runs from the request's arrival to the answer's first byte, `pace` between the tokens of a stream.
    `share_accounts`: all keys of a provider are one account; otherwise each key is an account.
    `charge_failed`: whether refused requests are charged too (None: OpenAI does, the others do not).
    `output_tokens`: the length of an answer, unless the request allows less.
    `characters_per_token`: of the real count; the estimate made on arrival is always one token per four characters.
    `cached_input`: the part of the input that is reported as read from the prompt cache, 0 to 1.
    `rate_limit_headers`, `retry_after`: whether the provider tells its limits, and when to come back.
    `name_limits`: whether a refusal says which limit was met, and its figure.
    `keep_alive`: seconds between empty lines (comments in a stream) sent while the caller waits, as DeepSeek does.
    `journal`: how many of the last requests are remembered one by one.
    """

    limits: tuple[Limit, ...] = ()
    faults: tuple[Fault, ...] = ()
    share_accounts: bool = False
    latency: Latency = Constant(0.0)
    pace: Latency = Constant(0.0)
    output_tokens: int = 16
    characters_per_token: float = 4.0
    cached_input: float = 0.0
    rate_limit_headers: bool = True
    retry_after: bool = True
    name_limits: bool = True
    charge_failed: bool | None = None
    keep_alive: float | None = None
    seed: int = 0
    journal: int = 10_000
    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        _check_types(self)
        _check_count("output_tokens", self.output_tokens)
        _check_count("journal", self.journal, least=0)
        _check(0 <= self.port <= 65_535, "port", "must be a port number from 0 (any free one) to 65535")
        form = "must be a number from 0.1 to 100"
        _check(0.1 <= self.characters_per_token <= 100, "characters_per_token", form)
        _check(0.0 <= self.cached_input <= 1.0, "cached_input", "must be a number from 0 to 1")
        _check(self.keep_alive is None or self.keep_alive > 0, "keep_alive", "must be a number of seconds above 0")

    @property
    def token_ratio(self) -> tuple[int, int]:
        """How input is really counted, in whole numbers: so many characters are so many tokens."""
        return Fraction(self.characters_per_token).limit_denominator(1000).as_integer_ratio()


def parse_spec(text: str, form: type[S]) -> S:
    """Read `KIND:key=value,...` into a `Limit` or a `Fault`; raises `ConfigError` that says what is accepted."""
    kind, _, rest = text.partition(":")
    names = {field.name: field.encode_name for field in msgspec.structs.fields(form)}
    fields: dict[str, object] = {"kind": kind.strip()}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = part.partition("=")
        _check(bool(equals), text, f"{part!r} is not key=value; accepted: {accepted_form(form)}")
        name = key.strip().replace("-", "_")
        fields[names.get(name, name)] = value.strip()
    try:
        return msgspec.convert(fields, form, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{error}; accepted: {accepted_form(form)}", key=text) from None


def accepted_form(form: type[msgspec.Struct]) -> str:
    """How the text form of a `Limit` or a `Fault` looks, for messages and help."""
    kinds = get_args(LimitKind if form is Limit else FaultKind)
    keys = ",".join(f"{name}=" for name in form.__struct_fields__ if name != "kind")
    return f"KIND:{keys} (those that are wanted) with KIND one of {', '.join(kinds)}"


def _check_types(value: msgspec.Struct) -> None:
    """Python values are checked like those read from JSON or text."""
    for field in msgspec.structs.fields(value):
        try:
            msgspec.convert(getattr(value, field.name), field.type)
        except msgspec.ValidationError as error:
            raise ConfigError(str(error), key=field.name) from None


def _check_count(key: str, value: int, *, least: int = 1) -> None:
    _check(value >= least, key, f"must be a whole number, at least {least}, not {value}")


def _check(holds: bool, key: str, message: str) -> None:
    if not holds:
        raise ConfigError(message, key=key)
