"""HTTP/1.1 as written on the wire, through plain sockets."""

from __future__ import annotations

import json
import socket
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from cross_instance.testing.provider import Constant, Limit, ProviderConfig, ProviderServer
from cross_instance.testing.provider.http import HEAD_LIMIT, Malformed, Request, read_request

if TYPE_CHECKING:
    from collections.abc import Callable


BODY = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
CHUNKED = (
    b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n%b\r\n%x;x=1\r\n%b\r\n0\r\n\r\n"
    % (
        BODY[:5],
        len(BODY) - 5,
        BODY[5:],
    )
)


def parse(parts: list[bytes]) -> list[Request]:
    """Feed the parser piece by piece, as a socket would."""
    buffer, requests = bytearray(), []
    parser = read_request(buffer, lambda: None)
    for part in parts:
        buffer += part
        while buffer:
            try:
                next(parser)
                break
            except StopIteration as complete:
                requests.append(complete.value)
                parser = read_request(buffer, lambda: None)
    return requests


def connect(server: ProviderServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def wait_for_in_flight(server: ProviderServer, count: int) -> None:
    """Ask until so many requests run; each question is a round trip to the server's loop."""
    assert any(server.statistics().total.in_flight == count for _ in range(100_000))


def read_replies(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Status and body of so many replies with a content length."""
    replies = []
    with connection.makefile("rb") as file:
        for _ in range(count):
            status = int(file.readline().split()[1])
            length = 0
            while (line := file.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                length = int(value) if name == b"content-length" else length
            replies.append((status, file.read(length)))
    return replies


@given(st.lists(st.integers(1, 400), max_size=8), st.sampled_from([CHAT, CHUNKED, CHAT + CHUNKED]))
def test_a_request_may_arrive_in_any_pieces(cuts: list[int], sent: bytes) -> None:
    bounds = [0, *sorted(cuts), len(sent)]
    requests = parse([sent[start:end] for start, end in pairwise(bounds)])
    assert [request.body for request in requests] == [BODY] * (2 if sent == CHAT + CHUNKED else 1)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"GET / HTTP/3\r\n\r\n", 400),
        (b"GET http://elsewhere/ HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nname : value\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * HEAD_LIMIT, 431),
    ],
)
def test_what_is_not_http_is_refused(sent: bytes, status: int) -> None:
    with pytest.raises(Malformed) as refused:
        next(read_request(bytearray(sent), lambda: None))
    assert refused.value.status == status


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    found: Request | int | None = None
    try:
        next(read_request(bytearray(data + b"\r\n\r\n"), lambda: None))
    except StopIteration as complete:
        found = complete.value
    except Malformed as refused:
        found = refused.status
    assert found is None or isinstance(found, Request) or 400 <= found < 500


def test_one_connection_serves_one_request_after_another(serve: Callable[..., ProviderServer]) -> None:
    with connect(serve()) as connection:
        connection.sendall(CHAT + CHUNKED + b"GET /nowhere HTTP/1.1\r\n\r\n" + CHAT)
        replies = read_replies(connection, 4)
    assert [status for status, _ in replies] == [200, 200, 404, 200]
    assert [json.loads(body)["id"] for status, body in replies if status == 200] == [
        "chatcmpl-1",
        "chatcmpl-2",
        "chatcmpl-3",
    ]


def test_a_refused_request_line_gets_an_answer_and_the_connection_ends(serve: Callable[..., ProviderServer]) -> None:
    with connect(serve()) as connection:
        connection.sendall(b"HELLO\r\n\r\n")
        assert read_replies(connection, 1)[0][0] == 400
        assert connection.recv(1) == b""


def test_leave_to_send_the_body(serve: Callable[..., ProviderServer]) -> None:
    head, _, body = CHAT.partition(b"\r\n\r\n")
    with connect(serve()) as connection:
        connection.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert read_replies(connection, 1)[0][0] == 200


def test_connection_close_is_honoured(serve: Callable[..., ProviderServer]) -> None:
    with connect(serve()) as connection:
        connection.sendall(CHAT.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nConnection: close\r\n"))
        assert read_replies(connection, 1)[0][0] == 200
        assert connection.recv(1) == b""


def test_a_head_request_has_no_body(serve: Callable[..., ProviderServer]) -> None:
    with connect(serve()) as connection:
        connection.sendall(b"HEAD /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as file:
            assert file.read().endswith(b"\r\n\r\n")


def test_a_caller_that_hangs_up_frees_its_slot(serve: Callable[..., ProviderServer]) -> None:
    server = serve(limits=(Limit("concurrency", 1),), latency=Constant(3600.0))
    first = connect(server)
    first.sendall(CHAT)
    with connect(server) as second:
        wait_for_in_flight(server, 1)
        second.sendall(CHAT)
        assert read_replies(second, 1)[0][0] == 429
    first.close()
    wait_for_in_flight(server, 0)
    total = server.statistics().total
    assert (total.abandoned, total.rejected, total.served) == (1, 1, 0)


def test_ending_the_server_lets_go_of_its_callers() -> None:
    with ProviderServer(ProviderConfig(latency=Constant(3600.0))) as server, connect(server) as connection:
        connection.sendall(CHAT)
        wait_for_in_flight(server, 1)
    assert server.statistics().total.abandoned == 1
