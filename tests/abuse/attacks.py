"""The attacks: each takes a victim and gives how often it got which answer."""

import contextlib
import io
import os
import random
import signal
import socket
import struct
import threading
import time
import zlib
from collections import Counter

import numpy as np
from PIL import Image
from victim import NO_ANSWER

MUTATE_S = 30
HEAD = b"POST /compress?curve=false HTTP/1.1\r\nHost: t\r\n"


def photo(height=120, width=160, seed=0):
    """Something with edges, gradients and noise, uint8 (h, w, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack(
        [127 + 120 * np.sin((x * a + y * b) / 30) for a, b in ((1, 2), (2, 1), (1, 0))], -1
    )
    return np.clip(waves + rng.normal(0, 8, waves.shape), 0, 255).astype(np.uint8)


def encoded(pixels, picture_format="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, picture_format, **options)
    return file.getvalue()


def chunk(name, content):
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(width, height, *chunks, depth=1, color=0, signature=b"\x89PNG\r\n\x1a\n"):
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return signature + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def rows(width, height, depth=1):
    return chunk(b"IDAT", zlib.compress(bytes((1 + (width * depth + 7) // 8) * height), 9))


def bombs(victim):
    zeros = zlib.compress(bytes(200_000_000), 9)
    small = rows(8, 8)
    webp = bytearray(encoded(photo(), "WEBP", lossless=True))
    webp[21:25] = struct.pack("<I", 16_382 | 16_382 << 14)  # the size in the header of a VP8L
    frames = [Image.new("P", (64, 64), i % 2) for i in range(3000)]
    gif = io.BytesIO()
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:])
    return victim.post_all(
        [
            png(9400, 9400, rows(9400, 9400)),
            png(60_000, 60_000, small),
            png(8, 8, chunk(b"iCCP", b"x\0\0" + zeros), small),
            png(8, 8, chunk(b"zTXt", b"x\0\0" + zeros), small),
            png(8, 8, chunk(b"iCCP", b"x\0\0" + zlib.compress(zeros, 9)), small),
            bytes(webp),
            gif.getvalue(),
        ]
        * 3
    )


def broken_pngs(victim):
    data = rows(32, 32)
    good = png(32, 32, data)
    return victim.post_all(
        [
            png(32, 32, data, signature=b"\x89PNG\r\r\r\n"),
            png(32, 32, data, signature=b"\x89PNG\n\x1a\n\n"),
            png(32, 32, data, signature=b"\x09PNG\r\n\x1a\n"),
            *(png(32, 32, data, color=color) for color in (1, 5, 7, 9)),
            *(png(32, 32, data, depth=depth) for depth in (0, 3, 99)),
            png(32, 32),
            png(32, 32, rows(32, 32, depth=8), depth=8, color=3),
            png(0, 0, data),
            good.replace(struct.pack(">I", zlib.crc32(data[4:-4])), b"\0\0\0\0"),
            good[:40] + b"\xff\xff\xff\xff" + good[44:],
        ]
    )


def cut_jpegs(victim):
    jpeg = encoded(photo(), "JPEG", quality=90)
    assert len(jpeg) < 16_384
    return victim.post_all([jpeg[:end] for end in range(0, len(jpeg), 256)])


def mutations(victim):
    seeds = [encoded(photo(40, 50), name) for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]
    rng = random.Random(7)
    end = time.monotonic() + MUTATE_S

    def mutants():
        while time.monotonic() < end:
            mutant = bytearray(rng.choice(seeds))
            for _ in range(rng.choice((1, 2, 8, 64))):
                mutant[rng.randrange(len(mutant))] = rng.randrange(256)
            yield bytes(mutant)

    answers = Counter()
    while batch := [mutant for mutant, _ in zip(mutants(), range(200), strict=False)]:
        answers += victim.post_all(batch, "/palette?k=4", parallel=4)
    return answers


def long_headers(victim):
    head = b"GET /healthz HTTP/1.1\r\nHost: t\r\n"
    return Counter(
        [
            victim.raw(head, b"X-A: " + bytes(40_000_000).replace(b"\0", b"a")),
            victim.raw(head, b"X-A: b\r\n" * 5_000_000),
            victim.raw(HEAD, b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: b\r\n" * 1_000_000),
        ]
    )


def _at_once(step, n):
    answers = []
    threads = [threading.Thread(target=lambda i=i: answers.append(step(i))) for i in range(n)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return Counter(answers)


def slow_senders(victim):
    def slow(i):
        if i % 3 == 0:
            return victim.raw(b"GET / HT", pause_s=0.1)
        if i % 3 == 1:
            return victim.raw(HEAD, *[b"X-A: b\r\n"] * 12, pause_s=1)
        return victim.raw(HEAD + b"Content-Length: 1000000\r\n\r\n", *[b"x" * 100] * 8, pause_s=1)

    return _at_once(slow, 150)


def wrong_lengths(victim):
    picture = encoded(photo())
    declared = HEAD + b"Content-Length: %d\r\n\r\n"
    return Counter(
        [
            victim.raw(declared % (len(picture) - 100) + picture),
            victim.raw(declared % (len(picture) + 100) + picture),
            victim.raw(declared % (50 * 2**20), picture),
            victim.raw(HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n", picture),
            victim.raw(HEAD + b"Content-Length: -1\r\n\r\n", picture),
        ]
    )


def endless_chunks(victim):
    piece = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    return Counter(
        victim.raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[piece] * 2000) for _ in range(3)
    )


def parallel_uploads(victim):
    return victim.post_all([encoded(photo(seed=i % 50)) for i in range(1000)], parallel=200)


def vanishing_clients(victim):
    picture = encoded(photo(400, 500))

    def vanish(i):
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection(victim.address) as connection,
        ):
            whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(picture) + picture
            connection.sendall(whole[: len(whole) if i % 2 else len(whole) // 2])
            time.sleep(0.02 * (i % 5))
        return NO_ANSWER

    return _at_once(vanish, 100)


def points(victim):
    table = b'{"points": [' + b",".join(b"[%d, 1.5, 2]" % i for i in range(250_000)) + b"]}"
    deep = b'{"points": ' + b"[" * 1_000_000
    answers = victim.post_all(
        [table[: 4 * 2**20], deep, b'{"points": [[1e308]]}'] * 3, "/elbow?k_max=3"
    )
    return answers + victim.post_all([table], "/elbow?k_max=3")


def hung_decoder(victim):
    def stop_them(_i=0):
        for child in victim.decoders():
            with contextlib.suppress(OSError):
                os.kill(child.pid, signal.SIGSTOP)

    stop_them()
    return victim.post_all([encoded(photo(seed=i)) for i in range(4)], parallel=4)


def killed_decoders(victim):
    return _answers_while_killed(victim, victim.decoders, 80, every_s=1.0)


def killed_lanes(victim):
    return _answers_while_killed(victim, victim.lanes, 400, every_s=2.5)  # it takes one to start


def _answers_while_killed(victim, processes, n_pictures, every_s):
    stop = threading.Event()

    def kill():
        while not stop.wait(every_s):
            for child in processes():
                with contextlib.suppress(OSError):
                    os.kill(child.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        return victim.post_all([encoded(photo(seed=i)) for i in range(n_pictures)], parallel=4)
    finally:
        stop.set()
        killer.join()


def broken_engine(victim):
    return victim.post_all([encoded(photo())] * 4, "/palette?k=13") + victim.post_all(
        [encoded(photo())] * 4, "/palette?k=12"
    )


def engine_without_memory(victim):
    return victim.post_all([encoded(photo())] * 4, "/palette?k=14") + victim.post_all(
        [encoded(photo())] * 4, "/palette?k=12"
    )
