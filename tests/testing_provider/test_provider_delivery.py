"""How answers go out: faults in the delivery, pace, signs of life; seen through plain HTTP clients."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from cross_instance.testing.provider import Constant, Fault, Limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.testing.provider import ProviderServer

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def post(server: ProviderServer, body: dict[str, Any] = CHAT, headers: dict[str, str] | None = None) -> httpx2.Response:
    return httpx2.post(f"{server.base_url()}/chat/completions", json=body, headers=headers, timeout=60, verify=False)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", ["cut_before", "cut_body"])
def test_a_cut_connection(serve: Callable[..., ProviderServer], kind: Any, stream: bool) -> None:
    server = serve(faults=(Fault(kind, last=1),))
    with pytest.raises(httpx2.RemoteProtocolError):
        post(server, CHAT | {"stream": stream})
    assert post(server, CHAT | {"stream": stream}).status_code == 200
    assert [record.outcome for record in server.journal()] == ["failed", "served"]


def test_half_a_body_arrives_before_the_cut(serve: Callable[..., ProviderServer]) -> None:
    url = f"{serve(faults=(Fault('cut_body'),)).base_url()}/chat/completions"
    received: list[bytes] = []
    with httpx2.stream("POST", url, json=CHAT | {"stream": True}, timeout=60, verify=False) as response:
        assert response.status_code == 200
        with pytest.raises(httpx2.RemoteProtocolError):
            received.extend(response.iter_bytes())
    assert b"data: " in b"".join(received)
    assert b"[DONE]" not in b"".join(received)


def test_a_malformed_body(serve: Callable[..., ProviderServer]) -> None:
    answer = post(serve(faults=(Fault("malformed"),)))
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_a_malformed_stream(serve: Callable[..., ProviderServer]) -> None:
    assert '{"broken": \n' in post(serve(faults=(Fault("malformed"),)), CHAT | {"stream": True}).text


def test_a_stream_error_asked_of_a_whole_answer_is_an_error(serve: Callable[..., ProviderServer]) -> None:
    assert post(serve(faults=(Fault("stream_error"),))).status_code == 500


def test_a_slow_first_byte_and_its_time_in_the_journal(serve: Callable[..., ProviderServer]) -> None:
    server = serve(faults=(Fault("slow_first_byte", seconds=0.05),))
    assert post(server).status_code == 200
    assert server.journal()[0].duration >= 0.05


def test_latency_and_pace_add_up(serve: Callable[..., ProviderServer]) -> None:
    server = serve(latency=Constant(0.02), pace=Constant(0.002), output_tokens=10)
    assert post(server, CHAT | {"stream": True}).status_code == 200
    assert server.journal()[0].duration >= 0.04


@pytest.mark.parametrize(("stream", "sign"), [(False, "\n"), (True, ": keep-alive\n\n")])
def test_signs_of_life_while_waiting(serve: Callable[..., ProviderServer], stream: bool, sign: str) -> None:
    answer = post(serve(latency=Constant(0.05), keep_alive=0.01), CHAT | {"stream": stream})
    assert answer.text.startswith(sign * 2)
    assert stream or answer.json()["object"] == "chat.completion"


@pytest.mark.parametrize("value", ["86400", "-1", "0", "soon", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_retry_after_is_sent_as_it_stands(serve: Callable[..., ProviderServer], value: str) -> None:
    answer = post(serve(faults=(Fault("429", retry_after=value),)))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, value)


def test_the_length_of_an_answer_by_header(serve: Callable[..., ProviderServer]) -> None:
    server = serve()
    answer = post(server, headers={"x-provider-output-tokens": "40"})
    assert answer.json()["usage"]["completion_tokens"] == 40
    assert post(server, headers={"x-provider-output-tokens": "many"}).status_code == 400


@pytest.mark.parametrize(("charge_failed", "left"), [(True, "0"), (None, "0"), (False, "1")])
def test_failed_requests_are_charged_or_not(
    serve: Callable[..., ProviderServer], charge_failed: bool | None, left: str
) -> None:
    limits = (Limit("requests", 3, period=1e6),)
    server = serve(limits=limits, faults=(Fault("500", first=2, last=2),), charge_failed=charge_failed)
    answers = [post(server) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 500, 200]
    assert answers[-1].headers["x-ratelimit-remaining-requests"] == left


def test_input_is_really_counted_by_the_configured_ratio(serve: Callable[..., ProviderServer]) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * 300}]}
    assert post(serve(characters_per_token=3.0), body).json()["usage"]["prompt_tokens"] == 100


def test_images_count_too(serve: Callable[..., ProviderServer]) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}}
    body = {"model": "m", "messages": [{"role": "user", "content": [image, {"type": "text", "text": "What?"}]}]}
    assert post(serve(), body).json()["usage"]["prompt_tokens"] == 258 + 2


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": 5}', b'{"model":"m","messages":["x"],"tools":[1]}'])
def test_a_body_that_makes_no_sense_is_a_bad_request(serve: Callable[..., ProviderServer], body: bytes) -> None:
    server = serve()
    answer = httpx2.post(f"{server.base_url()}/chat/completions", content=body, timeout=60, verify=False)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert server.statistics().total.invalid == 1
