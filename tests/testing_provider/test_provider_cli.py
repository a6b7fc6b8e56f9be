"""`cross-instance provider` as a real process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx2
import pytest
from click.testing import CliRunner

from cross_instance.cli.provider import provider

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = [sys.executable, "-c", "from cross_instance.cli.provider import provider; provider()"]
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A provider process and its URL."""
    with subprocess.Popen([*RUN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_url_serves_and_ends_clean_with_json(number: signal.Signals) -> None:
    with running("--port", "0", "--requests-per-minute", "600", "--burst", "1", "--json") as (process, url):
        chat = f"{url}/v1/chat/completions"
        with httpx2.Client(headers={"x-client": "a"}, timeout=60, verify=False) as client:
            statuses = {client.post(chat, json=CHAT).status_code for _ in range(20)}
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    statistics = json.loads(out)
    assert 200 in statuses
    assert statistics["clients"]["a"]["requests"] == 20


def test_statistics_for_people() -> None:
    with running("--fault", "429:last=1", "--latency", "uniform:0.001:0.002") as (process, url):
        for _ in range(2):
            httpx2.post(f"{url}/v1/chat/completions", json=CHAT, timeout=60, verify=False)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert "2 requests in" in out
    assert "1 rejected (429 1), at most 1 in flight" in out
    assert "(unnamed)" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--latency", "fast"], ["--latency", "uniform:LOW:HIGH"]),
        (["--requests-per-minute", "0"], ["--requests-per-minute", "x>=1"]),
        (["--limit", "request:amount=1"], ["--limit", "request:amount=1", "requests, tokens"]),
        (["--fault", "500:firts=1"], ["--fault", "firts", "first="]),
        (["--window", "sliding"], ["--window", "bucket", "fixed"]),
        (["--burst", "3"], ["--burst", "--requests-per-minute"]),
        (["--requests-per-minute", "3", "--limit", "requests:amount=1"], ["requests", "given twice"]),
        (["--host", "192.0.2.1"], ["cannot listen on 192.0.2.1"]),
    ],
)
def test_wrong_options_are_told_and_end_with_code_2(arguments: list[str], words: list[str]) -> None:
    result = CliRunner().invoke(provider, arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.output
