"""Attacks on the doors that draw: large tables, bombs, hostile numbers, clients that leave."""

import itertools
import json
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from attacks import encoded, photo, png, rows
from victim import NO_ANSWER

N_PARALLEL = 32
DOORS = ["before-after?k=8", "cube?k=8", "steps?k=3", "trap?k=3&starts=5"]
SVG = {"Accept": "image/svg+xml"}


def table(points, **members):
    return json.dumps({"points": points, **members}).encode()


def large_table(n):
    """So many points in the plane; some 400,000 are as many as a table may have."""
    rng = np.random.default_rng(0)
    points = b",".join(b"[%d,%d]" % tuple(row) for row in rng.integers(0, 1000, (n, 2)))
    return b'{"points": [' + points + b"]}"


def ask(victim, door, body, headers=SVG):
    return victim.request("POST", f"/plots/{door}", body, headers)[0]


def ask_all(victim, requests, parallel=8):
    with ThreadPoolExecutor(parallel) as pool:
        return Counter(pool.map(lambda request: ask(victim, *request), requests))


def hostile_tables(victim):
    """Huge, tiny, equal and missing numbers, weights of every size, every k, the wrong kind."""
    square = [[0, 0], [1, 0], [0, 1], [1, 1]]
    tables = [
        table([[1e100, -1e100], [-1e100, 1e100], [0, 0]]),
        table([[1e-310, 0], [2e-310, 1e-310], [0, 0]]),
        table([[1.0, 1.0], [1.0 + 2**-52, 1.0], [1.0, 1.0 + 2**-52]]),
        table([[1e308, 0], [-1e308, 1], [0, 2]]),
        table([[0, 0], [1e-161, 0], [1, 0], [1e100, 5]]),
        table([[5, 5]] * 9),
        table([[1, 2, 3]] * 3),
        table(square, weights=[1e-300, 1, 1, 1e300]),
        table(square, weights=[0, 0, 0, 0]),
        table(square, k=10**30),
        table(square, seed=-1, metric="<svg onload=alert(1)>"),
        b'{"points": ' + b"[" * 1_000_000,
        encoded(photo()),
        b"\0" * 1000,
    ]
    queries = ["k=0", "k=1", "k=256", f"k={'9' * 5000}", "k=2&p=1e300&metric=minkowski"]
    requests = [(f"{door}?{query}", tables[1]) for door in ("steps", "trap") for query in queries]
    requests += [(door, each) for door in ("steps?k=2", "trap?k=2&starts=2") for each in tables]
    return ask_all(victim, [*requests, ("trap?starts=501", tables[0])])


def bombs(victim):
    """Much to draw from little: 49 megapixels in 150 kB, 10 million rows of 3 pixels."""
    flat, tall = png(7000, 7000, rows(7000, 7000)), png(3, 10_000_000, rows(3, 10_000_000))
    hidden = encoded(np.zeros((2000, 2000, 4), np.uint8))
    plain = "before-after?space=rgb&dither=0&k=256"
    return ask_all(
        victim,
        [
            (plain, tall),
            (plain, hidden),
            ("cube?k=256", flat),
            ("cube?k=256", hidden),
            ("trap?k=256&starts=2", flat),
            ("trap?k=2", hidden),
            ("cube", png(9400, 9400, rows(9400, 9400))),
            ("trap", png(60_000, 60_000, rows(8, 8))),
        ],
    )


def large_tables(victim):
    """Every point of a large table a cluster and to be drawn; the way of the largest in eight."""
    answers = Counter([victim.post(large_table(100_000), "/cluster?k=100000&max_iter=1", SVG)])
    return answers + ask_all(victim, [("steps?k=8", large_table(400_000))])


def many_at_once(victim):
    """Every door, both kinds of file, from many at once."""
    picture, points = encoded(photo(60, 80)), table(photo(30, 10)[:, :, :2].reshape(-1, 2).tolist())
    kinds = [SVG, {"Accept": "image/png"}]
    requests = [
        (door, points if door[0] in "st" else picture, kind)
        for door, kind in itertools.product(DOORS, kinds)
    ]
    return ask_all(victim, requests * (N_PARALLEL // len(requests)), N_PARALLEL)


def leaving_clients(victim):
    """The dearest plots, whose clients leave after a second: minutes of work, were it not ended."""
    points, noise = large_table(400_000), encoded(photo(1000, 1000) ^ photo(1000, 1000, 1), "JPEG")

    def leave(request):
        door, body = request
        head = b"POST /plots/%s HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n"
        with socket.create_connection(victim.address) as connection:
            connection.sendall(head % (door.encode(), len(body)) + body)
            time.sleep(1)
        return NO_ANSWER

    requests = [
        ("trap?k=256&starts=500", points),
        ("steps?k=256&metric=cityblock", points),
        ("steps?k=256", points),
        ("before-after?k=256&effort=9", noise),
    ]
    with ThreadPoolExecutor(len(requests)) as pool:
        return Counter(pool.map(leave, requests))
