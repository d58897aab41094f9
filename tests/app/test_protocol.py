"""What a client may do to a connection, tried on a real server on a loopback port."""

import asyncio
import contextlib
import json
import socket
import time
from dataclasses import replace

import pytest
from servers import QUICK, answer_to, connected, one_answer, post, served, status_of

from app.protocol import Turnstile


async def echo_length(scope, receive, send):
    """Answer with the length of the body; `/slow` after a while, `/deaf` without reading it."""
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    length, more = 0, scope["path"] != "/deaf"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message["body"]), message["more_body"]
    if scope["path"] == "/slow":
        await asyncio.sleep(3 * QUICK.header_timeout_s)
    body = bytes(20_000_000) if scope["path"] == "/big" else str(length).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def address():
    with served(echo_length) as address:
        yield address


def connected_from(host, address):
    return socket.create_connection(address, timeout=20, source_address=(host, 0))


def assert_problem(raw, status, code):
    head, _, body = raw.partition(b"\r\n\r\n")
    assert status_of(raw) == status
    assert b"application/problem+json" in head
    assert json.loads(body)["code"] == code


def test_a_request_is_answered_and_its_connection_kept(address):
    with connected(address) as connection:
        for body in (b"four", b"seven__"):
            connection.sendall(post("/", body))
            raw = one_answer(connection)

            assert status_of(raw) == 200
            assert raw.endswith(str(len(body)).encode())


def test_a_body_in_pieces_is_no_slow_body(address):
    with connected(address) as connection:
        connection.sendall(post("/", bytes(50_000))[:-50_000])
        for _ in range(10):
            time.sleep(0.1)
            connection.sendall(bytes(5000))

        assert one_answer(connection).endswith(b"50000")


def test_computing_may_take_longer_than_sending(address):
    with connected(address) as connection:
        connection.sendall(post("/slow", b"x"))

        assert status_of(one_answer(connection)) == 200


def test_a_client_that_says_nothing_is_hung_up_on(address):
    with connected(address) as connection:
        assert answer_to(connection) == b""


@pytest.mark.parametrize("start", [b"PO", b"POST / HTTP/1.1\r\nHost: t\r\nX-A: ", b"\r\n"])
def test_headers_that_do_not_end_are_too_slow(address, start):
    with connected(address) as connection:
        connection.sendall(start)

        assert_problem(answer_to(connection), 408, "request-timeout")


def test_headers_that_drip_are_too_slow(address):
    with connected(address) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        connection.settimeout(0.05)
        raw = b""
        while not raw:
            connection.sendall(b"X-A: b\r\n")
            try:
                raw = connection.recv(65536)
            except TimeoutError:
                continue

        assert_problem(raw, 408, "request-timeout")


@pytest.mark.parametrize("sent", [0, 100])
def test_a_body_that_stops_is_too_slow(address, sent):
    with connected(address) as connection:
        connection.sendall(post("/", bytes(50_000))[: sent - 50_000])

        assert_problem(answer_to(connection), 408, "request-timeout")


def test_a_second_request_on_a_connection_has_the_same_time(address):
    with connected(address) as connection:
        connection.sendall(post("/", b"first"))
        one_answer(connection)
        connection.sendall(b"POST / HT")

        assert_problem(answer_to(connection), 408, "request-timeout")


@pytest.mark.parametrize(
    "headers",
    [
        f"X-A: {'a' * 20_000}\r\n",
        "X-A: b\r\n" * 2000,
        f"X-A: {'a' * 2_000_000}\r\n",
        "X-A: b\r\n" * 200_000,
    ],
    ids=["long", "many", "megabytes in one", "megabytes of many"],
)
def test_headers_that_are_too_large_are_refused(address, headers):
    with connected(address) as connection:
        connection.sendall(post("/", headers=headers))

        assert_problem(answer_to(connection), 431, "headers-too-large")


def test_an_address_that_is_too_long_is_refused(address):
    with connected(address) as connection:
        connection.sendall(post("/" + "a" * 9000))

        assert_problem(answer_to(connection), 431, "headers-too-large")


CHUNKED = b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "rest",
    [b"1;" + b"x" * 10**6, b"0\r\n" + b"X-A: b\r\n" * 10**5, b"0\r\nX-A: " + b"a" * 10**6],
    ids=["a chunk's extension", "trailers", "a trailer"],
)
def test_what_is_no_body_cannot_come_without_end(address, rest):
    with connected(address) as connection:
        connection.sendall(CHUNKED + rest)

        assert_problem(answer_to(connection), 431, "headers-too-large")


def test_trailers_within_the_limit_are_taken(address):
    with connected(address) as connection:
        connection.sendall(CHUNKED + b"4\r\nfour\r\n0\r\nX-A: b\r\n\r\n")

        assert one_answer(connection).endswith(b"4")


@pytest.mark.parametrize(
    "raw", [b"what?\r\n\r\n", b"\x16\x03\x01\x02\x00", post("/", b"x") + b"more than declared"]
)
def test_what_is_no_http_is_refused(address, raw):
    with connected(address) as connection:
        connection.sendall(raw)
        answer = answer_to(connection)

    assert_problem(answer[answer.index(b"HTTP/1.1 400") :], 400, "bad-request")


def test_half_a_request_that_is_answered_already_is_not_read_for_ever(address):
    with connected(address) as connection:
        connection.sendall(post("/deaf", bytes(10_000_000))[:-9_000_000])

        assert status_of(answer_to(connection)) == 200


def test_a_connection_answered_early_is_not_kept_for_ever(address):
    with connected(address) as connection:
        whole = post("/deaf", bytes(10_000))
        connection.sendall(whole[:-5000])
        one_answer(connection)
        connection.sendall(whole[-5000:])

        assert answer_to(connection) == b""


def test_a_client_that_does_not_take_its_answer_is_cut_off(address):
    with connected(address) as connection:
        connection.sendall(post("/big", b"x"))
        time.sleep(2 * QUICK.grace_s + 1)

        assert len(answer_to(connection)) < 20_000_000


def test_a_full_house_still_lets_a_newcomer_in():
    limits = replace(QUICK, header_timeout_s=20)  # so that time alone makes no room
    with served(echo_length, limits) as address:
        idle = [connected(address) for _ in range(2 * limits.max_connections)]
        try:
            for each in idle:
                each.__enter__()
            with connected(address) as connection:
                connection.sendall(post("/", b"x"))

                assert status_of(one_answer(connection)) == 200
        finally:
            for each in idle:
                each.__exit__(None, None, None)


def test_nonsense_behind_a_request_does_not_take_its_answer(address):
    with connected(address) as connection:
        connection.sendall(post("/slow", b"x") + b"nonsense\r\n\r\n")
        raw = answer_to(connection)

    assert status_of(raw) == 200
    assert_problem(raw[raw.index(b"HTTP/1.1 400") :], 400, "bad-request")


def test_a_newcomer_displaces_a_connection_of_the_client_that_has_most():
    limits = replace(QUICK, max_connections=6, header_timeout_s=20, tick_s=0.05)
    with served(echo_length, limits) as address, contextlib.ExitStack() as held:
        quiet = held.enter_context(connected_from("127.0.0.2", address))
        time.sleep(3 * limits.tick_s)  # it has waited longest
        for _ in range(10):
            held.enter_context(connected(address))
            time.sleep(0.01)
        quiet.sendall(post("/", b"x"))

        assert status_of(one_answer(quiet)) == 200


@pytest.mark.parametrize("hosts", ["", "Host: a\r\nHost: b\r\n"])
def test_a_request_has_one_host(address, hosts):
    with connected(address) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\n{hosts}\r\n".encode())

        assert_problem(answer_to(connection), 400, "bad-request")


@pytest.mark.parametrize("line", ["GET /", "GET / HTTP/0.9", "GET / HTTP/2.0", "GET / HTTP/1.2"])
def test_other_versions_of_http_are_not_taken(address, line):
    with connected(address) as connection:
        connection.sendall(f"{line}\r\nHost: t\r\n\r\n".encode())

        assert_problem(answer_to(connection), 400, "bad-request")


@pytest.mark.parametrize(
    ("version", "codings"),
    [
        ("1.0", ["chunked"]),
        ("1.1", ["gzip, chunked"]),
        ("1.1", ["gzip", "chunked"]),
        ("1.1", ["chunked", "chunked"]),
        ("1.1", ["identity"]),
    ],
)
def test_a_body_comes_in_no_transfer_coding_but_chunked(address, version, codings):
    lines = "".join(f"Transfer-Encoding: {coding}\r\n" for coding in codings)
    with connected(address) as connection:
        connection.sendall(f"POST / HTTP/{version}\r\nHost: t\r\n{lines}\r\n".encode())
        connection.sendall(b"4\r\nfour\r\n0\r\n\r\n")

        assert_problem(answer_to(connection), 400, "bad-request")


@pytest.mark.parametrize("coding", ["chunked", "Chunked"])
def test_a_body_may_come_chunked(address, coding):
    with connected(address) as connection:
        head = f"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: {coding}\r\n\r\n"
        connection.sendall(head.encode() + b"4\r\nfour\r\n0\r\n\r\n")

        assert one_answer(connection).endswith(b"4")


@pytest.mark.parametrize(("hosts", "status"), [("", 200), ("Host: a\r\nHost: b\r\n", 400)])
def test_http_1_0_may_go_without_a_host(address, hosts, status):
    with connected(address) as connection:
        connection.sendall(f"GET / HTTP/1.0\r\n{hosts}\r\n".encode())

        assert status_of(answer_to(connection)) == status


def test_of_a_flood_a_few_requests_begin_at_a_time():
    begun = []

    async def flood():
        turnstile, loop = Turnstile(), asyncio.get_running_loop()
        for i in range(50):
            turnstile.enter(loop, lambda i=i: begun.append(i))
        await asyncio.sleep(0)
        begun.append("somebody else")
        for _ in range(50):
            await asyncio.sleep(0)

    asyncio.run(flood())

    assert begun.index("somebody else") < 10
    begun.remove("somebody else")
    assert begun == list(range(50))
