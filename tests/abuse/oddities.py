"""Attacks by the letter of HTTP: requests that could be read in two ways, odd names, odd forms."""

import contextlib
import resource
import socket
import time
from collections import Counter

from attacks import HEAD, encoded, photo
from victim import NO_ANSWER

LAST = b"Connection: close\r\n"
FORM = LAST + b"Content-Type: multipart/form-data; boundary=b\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
N_IDLE = 1500


def _get(target, headers=b""):
    return b"GET %s HTTP/1.1\r\nHost: t\r\n%s%s\r\n" % (target, LAST, headers)


def two_readings(victim):
    """Request smuggling, upgrades, headers that end in the middle, nonsense behind a request."""
    picture = encoded(photo())
    length = b"Content-Length: %d\r\n" % len(picture)
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(picture), picture)
    whole = HEAD + length + b"\r\n" + picture
    upgrade = b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"
    requests = [
        HEAD + LAST + length + CHUNKED + b"\r\n" + chunks,
        HEAD + LAST + CHUNKED + length + b"\r\n" + chunks,
        HEAD + LAST + length + b"Content-Length: 5\r\n\r\n" + picture,
        HEAD + LAST + CHUNKED.replace(b"chunked", b"xchunked") + b"\r\n" + chunks,
        HEAD + LAST + CHUNKED + CHUNKED.replace(b"chunked", b"identity") + b"\r\n" + chunks,
        HEAD + LAST + b"Content-Length: +5\r\n\r\nabcde",
        HEAD + LAST + b"Content-Length : 5\r\n\r\nabcde",
        HEAD + LAST + b"X-A: b\r\n c\r\n" + length + b"\r\n" + picture,
        HEAD + upgrade + length + b"\r\n" + picture,
        HEAD + LAST + length + b"Expect: 100-continue\r\n\r\n" + picture,
        HEAD + LAST + length + b"Content-Encoding: gzip\r\n\r\n" + picture,
        whole * 50 + _get(b"/healthz"),
        whole + b"nonsense\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        _get(b"/healthz", b"X-Request-Id: a\0b\r\n"),
        _get(b"/healthz", b"X-Request-Id: a\rSet-Cookie: b\r\n"),
        b"GET /healthz HTTP/1.1\nHost: t\n\n",
    ]
    return Counter(victim.raw(each) for each in requests)


def odd_names(victim):
    """Path traversal, NUL, surrogates and digits of other scripts, thousands of parameters."""
    picture = encoded(photo())
    targets = [
        b"/results/../../etc/passwd",
        b"/static/%2e%2e/%2e%2e/main.py",
        b"/static/%00",
        b"/static/" + b"a" * 5000,
        b"/static/%ff%fe%ed%a0%80",
        b"/results/%ff%ed%a0%80",
        b"/%ff%ed%a0%80",
    ]
    queries = [b"k=%ed%a0%80%00", b"k=%D9%A3", b"k=" + b"9" * 9000, b"&".join([b"a=1"] * 7000)]
    posts = [
        b"POST /compress?%s HTTP/1.1\r\nHost: t\r\n%sContent-Length: %d\r\n\r\n%s"
        % (query, LAST, len(picture), picture)
        for query in queries
    ]
    return Counter(victim.raw(each) for each in [*map(_get, targets), *posts])


def odd_forms(victim):
    """Thousands of parts, nested ones, near boundaries, names of files that lead elsewhere."""
    picture = encoded(photo())
    start = b"--b\r\nContent-Disposition: form-data; name="
    file = start + b'"file"; filename="%s"\r\n\r\n%s\r\n'
    bodies = [
        start + b'"a"\r\n\r\n1\r\n' * 20_000 + b"--b--\r\n",
        b"--b\r\n\r\n\r\n" * 200_000 + b"--b--\r\n",
        start
        + b'"file"\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n'
        + b"--c\r\n\r\nx\r\n--c--\r\n--b--\r\n",
        file % (b'../../etc/passwd\\"; name=\\"k', picture) + b"--b--\r\n",
        start + b"\"file\"; filename*=utf-8''%ff%fe\r\n\r\n" + picture + b"\r\n--b--\r\n",
        b"--b\r\nX: " + b"a" * 10**6 + b"\r\n\r\nx\r\n--b--\r\n",
        file % (b"x", b"\r\n-" * 5_000_000) + b"--b--\r\n",
        file % (b"x", b"\r" * 15_000_000) + b"--b--\r\n",
        file % (b"x", picture),
    ]
    heads = [FORM] * len(bodies)
    heads += [LAST + b"Content-Type: multipart/form-data\r\n"]
    heads += [LAST + b"Content-Type: multipart/form-data; boundary=" + b"b" * 5000 + b"\r\n"]
    return Counter(
        victim.raw(HEAD + head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        for head, body in zip(heads, [*bodies, b"x", b"x"], strict=True)
    )


def idle_connections(victim):
    """More connections than there is room for, which say nothing."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, N_IDLE + 500), hard))
    with contextlib.ExitStack() as held:
        for _ in range(N_IDLE):
            held.enter_context(socket.create_connection(victim.address))
        time.sleep(1)
        return Counter([victim.get("/healthz")[0]]) + Counter({NO_ANSWER: N_IDLE})


def dearest_requests(victim):
    """A megapixel of noise at the greatest effort, whose clients leave after a second."""
    noise = encoded(photo(1000, 1000) ^ photo(1000, 1000, 1), "JPEG")

    def leave(query):
        head = b"POST /compress?k=256&curve=false&effort=9&%s HTTP/1.1\r\nHost: t\r\n" % query
        with socket.create_connection(victim.address) as connection:
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(noise) + noise)
            time.sleep(1)
        return NO_ANSWER

    return Counter(leave(query) for query in (b"seed=1", b"format=webp", b"refine=2", b"seed=2"))
