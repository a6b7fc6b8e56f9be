"""`cross-instance provider`: a local provider to test against, until it is told to end."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import click
import msgspec

from cross_instance.errors import ConfigError
from cross_instance.testing.provider.config import Fault, Limit, ProviderConfig, Window, parse_spec
from cross_instance.testing.provider.latency import ACCEPTED, parse_latency
from cross_instance.testing.provider.server import ProviderServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cross_instance.testing.provider.config import LimitKind
    from cross_instance.testing.provider.statistics import Statistics, Tally

_COUNT = click.IntRange(min=1)
_TOKENS: tuple[LimitKind, ...] = ("tokens", "input_tokens", "output_tokens")


class _Text(click.ParamType[Any]):
    """An option whose text form is read by a function that raises `ConfigError`."""

    def __init__(self, name: str, read: Callable[[str], object]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> object:
        try:
            return self._read(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


_LATENCY = _Text("latency", parse_latency)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, help="Port to listen on; 0 takes a free one.")
@click.option("--requests-per-minute", type=_COUNT, help="Requests let in per minute.")
@click.option("--burst", type=_COUNT, help="Requests let in at once; by default a minute's worth.")
@click.option("--tokens-per-minute", type=_COUNT, help="Tokens per minute, counted by each provider's rule.")
@click.option("--input-tokens-per-minute", type=_COUNT, help="Input tokens per minute.")
@click.option("--output-tokens-per-minute", type=_COUNT, help="Output tokens per minute.")
@click.option("--concurrency", type=_COUNT, help="Requests served at once.")
@click.option("--window", type=click.Choice(["bucket", "fixed"]), default="bucket", show_default=True, help="Refill.")
@click.option(
    "--limit",
    "limits",
    multiple=True,
    type=_Text("limit", lambda text: parse_spec(text, Limit)),
    help="Another limit: KIND:amount=,period=,burst=,window=,models=,provider=; repeatable.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    type=_Text("fault", lambda text: parse_spec(text, Fault)),
    help="A fault: KIND:first=,last=,after=,until=,probability=,models=,retry_after=,code=,seconds=; repeatable.",
)
@click.option("--latency", type=_LATENCY, default="0", help=f"Time to the first byte: {ACCEPTED}.")
@click.option("--pace", type=_LATENCY, default="0", help="Time between the tokens of a stream, in the same form.")
@click.option("--output-tokens", type=_COUNT, default=16, show_default=True, help="Length of an answer.")
@click.option(
    "--characters-per-token", type=click.FloatRange(0.1, 100), default=4.0, help="Of the real count of input."
)
@click.option("--cached-input", type=click.FloatRange(0, 1), default=0.0, help="Part of the input read from the cache.")
@click.option("--share-accounts", is_flag=True, help="All keys of a provider are one account.")
@click.option("--rate-limit-headers/--no-rate-limit-headers", default=True, help="Tell the limits in headers.")
@click.option("--retry-after/--no-retry-after", default=True, help="Tell a refused caller when to come back.")
@click.option("--name-limits/--no-name-limits", default=True, help="Tell a refused caller which limit was met.")
@click.option("--charge-failed/--no-charge-failed", default=None, help="Charge refused requests; by default OpenAI's.")
@click.option("--keep-alive", type=click.FloatRange(0, min_open=True), help="Seconds between signs of life.")
@click.option("--seed", type=int, default=0, help="Seed of latencies and faults.")
@click.option("--json", "as_json", is_flag=True, help="Print the statistics as JSON.")
def provider(*, as_json: bool, **options: Any) -> None:
    """Run a local provider that speaks OpenAI, Anthropic and Gemini and enforces limits.

    The first line printed is its URL. It runs until it is interrupted (SIGINT or SIGTERM), prints its statistics and
    ends with exit code 0.
    """
    try:
        server = ProviderServer(_config(options))
        asyncio.run(_run(server))
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    statistics = server.statistics()
    if as_json:
        click.echo(msgspec.json.encode(statistics))
    else:
        click.echo("\n".join(_lines(statistics)))


def _config(options: dict[str, Any]) -> ProviderConfig:
    window: Window = options.pop("window")
    burst = options.pop("burst")
    if burst is not None and options["requests_per_minute"] is None:
        raise ConfigError("goes with --requests-per-minute", key="--burst")
    requests = options.pop("requests_per_minute")
    limits = [] if requests is None else [Limit("requests", requests, burst=burst, window=window)]
    for kind in _TOKENS:
        amount = options.pop(f"{kind}_per_minute")
        if amount is not None:
            limits.append(Limit(kind, amount, window=window))
    concurrency = options.pop("concurrency")
    if concurrency is not None:
        limits.append(Limit("concurrency", concurrency))
    return ProviderConfig(**options | {"limits": (*limits, *options["limits"])})


async def _run(server: ProviderServer) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with server:
        click.echo(server.url)
        await stop.wait()


def _lines(statistics: Statistics) -> Iterator[str]:
    """The statistics for people: the sum, and a line per client."""
    total = statistics.total
    causes = ", ".join(f"{cause} {count}" for cause, count in statistics.rejections.items())
    yield f"{total.requests} requests in {statistics.elapsed:.1f} s, {total.accepted} accepted, {total.failed} failed"
    yield f"{total.rejected} rejected{f' ({causes})' if causes else ''}, at most {total.max_in_flight} in flight"
    if statistics.clients:
        yield f"{'client':<24}{'requests':>9}{'served':>8}{'429s':>7}{'p50 s':>8}{'p95 s':>8}"
    for name, tally in statistics.clients.items():
        yield _line(name or "(unnamed)", tally)


def _line(name: str, tally: Tally) -> str:
    seconds = tally.latencies
    return f"{name:<24}{tally.requests:>9}{tally.served:>8}{tally.rejected:>7}{seconds.p50:>8.3f}{seconds.p95:>8.3f}"
