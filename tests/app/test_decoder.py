"""Decoding in processes of its own: what hangs, crashes or eats memory costs its request only."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pictures import black_png, encoded, noise
from servers import wait_until

from app import decoder_pipes
from app.codecs import Limits, decode
from app.decoder import Decoder, DecoderLimits
from app.errors import BadPoints, CorruptImage, QueueFull, ServiceError, TooManyPixels
from app.pipes import ProcessDiedError
from app.points import parse_points

PICTURE = encoded(noise(30, 20))
LARGE = black_png(9000, 5000)


@contextmanager
def decoder_of(processes=1, room=None, has_room=None, **limits):
    decoder = Decoder(
        DecoderLimits(**({"max_pixels": 50_000_000} | limits)),
        processes=processes,
        **({"room": room} if room else {}),
        **({"has_room": has_room} if has_room else {}),
    )
    yield decoder
    decoder.close()


async def pixels_of(decoder, picture):
    async with decoder.decoded(picture) as decoded:
        return decoded.pixels


def run(decoder, *pictures):
    """Decode pictures at once; pixels or an error for each."""

    async def all_of_them():
        return await asyncio.gather(
            *(pixels_of(decoder, picture) for picture in pictures), return_exceptions=True
        )

    return asyncio.run(all_of_them())


@pytest.mark.parametrize(
    "picture",
    [PICTURE, encoded(noise(5, 7, 4)), encoded(noise(9, 9), "JPEG"), encoded(noise(9, 9), "GIF")],
)
def test_a_picture_is_the_same_as_decoded_here(picture):
    async def both():
        with decoder_of() as decoder:
            async with decoder.decoded(picture) as decoded:
                return decoded

    there, here = asyncio.run(both()), decode(picture, Limits(max_pixels=100_000))

    assert np.array_equal(there.pixels, here.pixels)
    for name in ("media_type", "width", "height", "encoded", "is_palette", "warnings"):
        assert getattr(there, name) == getattr(here, name)


@pytest.mark.parametrize("bad", [b"", b"text", PICTURE[:50], black_png(9400, 9400)])
def test_an_error_is_the_same_as_raised_here(bad):
    with pytest.raises(ServiceError) as here:
        decode(bad, Limits(max_pixels=50_000_000))
    with decoder_of() as decoder:
        (there,) = run(decoder, bad)

        assert type(there) is type(here.value)
        assert (there.detail, there.members) == (here.value.detail, here.value.members)
        assert decoder.kills == 0


def test_room_is_held_from_the_header_to_the_end():
    held = []

    @contextmanager
    def room(n_pixels):
        held.append(n_pixels)
        yield
        held.append(-n_pixels)

    async def test():
        with decoder_of(room=room) as decoder:
            async with decoder.decoded(PICTURE):
                assert held == [600]

    asyncio.run(test())

    assert held == [600, -600]


@pytest.mark.parametrize("has_room", [True, False])  # for any small picture
@pytest.mark.parametrize("refused", [encoded(noise(30, 21)), LARGE])
def test_a_picture_without_room_is_dropped_and_the_process_goes_on(refused, has_room):
    @contextmanager
    def room(n_pixels):
        if n_pixels > 600:
            raise QueueFull("no room")
        yield

    with decoder_of(room=room, has_room=lambda _: has_room) as decoder:
        refused, taken = run(decoder, refused, PICTURE)

        assert isinstance(refused, QueueFull)
        assert taken.shape == (30, 20, 3)
        assert decoder.kills == 0


@pytest.mark.parametrize(("has_room", "n_words"), [(True, 1), (False, 2)])
def test_a_small_picture_comes_whole_where_there_is_room_for_any(has_room, n_words, monkeypatch):
    words, in_thread = [], Decoder._in_thread

    async def counted(self, step, *arguments):
        words.append(step)
        return await in_thread(self, step, *arguments)

    monkeypatch.setattr(Decoder, "_in_thread", counted)
    with decoder_of(has_room=lambda _: has_room) as decoder:
        (taken,) = run(decoder, PICTURE)

    assert taken.shape == (30, 20, 3)
    assert len(words) == n_words


def test_a_decode_that_takes_too_long_is_killed_and_the_next_one_goes_on():
    with decoder_of(timeout_s=0.001) as decoder:
        (hung,) = run(decoder, LARGE)
        decoder.limits = DecoderLimits(max_pixels=50_000_000)
        (taken,) = run(decoder, PICTURE)

        assert isinstance(hung, CorruptImage)
        assert taken.shape == (30, 20, 3)
        assert decoder.kills == 1


def test_a_picture_that_needs_more_memory_than_there_is_is_corrupt():
    with decoder_of(max_memory_bytes=2**28) as decoder:
        too_much, taken = run(decoder, encoded(np.zeros((9000, 5000, 3), np.uint8)), PICTURE)

        assert isinstance(too_much, CorruptImage)
        assert taken.shape == (30, 20, 3)


def test_a_process_that_is_killed_costs_no_request():
    with decoder_of() as decoder:
        decoder.warm_up()
        (process,) = decoder._idle
        os.kill(process._popen.pid, signal.SIGKILL)
        (taken,) = run(decoder, PICTURE)

        assert taken.shape == (30, 20, 3)
        assert decoder.kills == 1


def test_a_picture_that_kills_its_process_twice_is_corrupt(monkeypatch):
    def die(_process, _encoded):
        raise ProcessDiedError

    monkeypatch.setattr(decoder_pipes.DecodingProcess, "read_pixels", die)
    with decoder_of() as decoder:
        (dead,) = run(decoder, PICTURE)

        assert isinstance(dead, CorruptImage)
        assert decoder.kills == 2


def test_a_client_that_leaves_ends_the_decoding():
    async def test():
        with decoder_of() as decoder:
            decoding = asyncio.create_task(pixels_of(decoder, LARGE))
            await asyncio.sleep(0.05)
            decoding.cancel()
            await asyncio.gather(decoding, return_exceptions=True)

            assert decoding.cancelled()
            assert decoder.kills == 1
            assert (await pixels_of(decoder, PICTURE)).shape == (30, 20, 3)

    asyncio.run(test())


def test_many_pictures_share_few_processes():
    with decoder_of(processes=2) as decoder:
        results = run(decoder, *[PICTURE] * 20)

        assert all(pixels.shape == (30, 20, 3) for pixels in results)
        assert len(decoder._idle) == 2


def test_a_process_at_work_ends_with_its_request_once_the_decoder_is_closed():
    async def close_at_work():
        decoder = Decoder(DecoderLimits(max_pixels=50_000_000))
        async with decoder.decoded(PICTURE):
            pass
        process = decoder._idle[0]
        read_pixels = process.read_pixels

        def closed_first(picture):
            decoder.close()
            return read_pixels(picture)

        process.read_pixels = closed_first
        async with decoder.decoded(PICTURE):
            return decoder, process

    decoder, process = asyncio.run(close_at_work())

    assert decoder._idle == []
    assert decoder.kills == 0
    assert process._popen.poll() is not None


def test_no_secret_of_ours_is_in_its_environment(monkeypatch):
    monkeypatch.setenv("GPU_KMEANS_API_KEYS", "a-secret-key-of-ours")
    with decoder_of() as decoder:
        decoder.warm_up()
        pid = decoder._idle[0]._popen.pid
        environ = Path(f"/proc/{pid}/environ")
        wait_until(lambda: b"PYTHONPATH" in environ.read_bytes())  # it may only just have begun

        assert b"secret" not in environ.read_bytes()


def test_it_knows_neither_torch_nor_the_web():
    code = "import sys, app.decoder_process; print({'torch', 'fastapi'} & sys.modules.keys())"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "set()"


def test_the_limit_of_pixels_is_the_decoder_s():
    with decoder_of(max_pixels=599) as decoder:
        (refused,) = run(decoder, PICTURE)

        assert isinstance(refused, TooManyPixels)


TABLES = [
    b'{"points": [[1, 2.5], [3, -4e50]], "weights": [1, 0], "k": 2, "metric": "cosine"}',
    b'{"points": [[1]]}',
]


async def table_of(decoder, encoded):
    return await decoder.table(encoded)


@pytest.mark.parametrize("encoded", TABLES)
def test_a_table_is_the_same_as_read_here(encoded):
    with decoder_of() as decoder:
        there = asyncio.run(table_of(decoder, encoded))
    here = parse_points(encoded)

    assert np.array_equal(there.points, here.points)
    assert there.weights is here.weights is None or np.array_equal(there.weights, here.weights)
    assert there.parameters == here.parameters


@pytest.mark.parametrize(
    "encoded",
    [b"{", b"[" * 10**6, b'{"points": [[1e308]]}', b'{"points": [[1]], "k": "%s"}' % bytes(10**6)],
    ids=["cut", "nested", "large", "long parameter"],
)
def test_a_bad_table_is_refused_as_here_and_costs_no_process(encoded):
    with decoder_of() as decoder:
        with pytest.raises(BadPoints) as there:
            asyncio.run(table_of(decoder, encoded))
        assert decoder.kills == 0
    with pytest.raises(BadPoints) as here:
        parse_points(encoded)

    assert there.value.detail == here.value.detail


def test_a_table_that_takes_too_much_memory_is_refused():
    many = b'{"points": [' + b"[1]," * 2_000_000 + b"[1]]}"
    with decoder_of(max_memory_bytes=2**28) as decoder, pytest.raises(BadPoints):
        asyncio.run(table_of(decoder, many))


def test_what_a_decoder_says_of_a_bad_picture_is_not_logged(monkeypatch, caplog):
    def quote(_image):
        raise UnicodeDecodeError("utf-8", b"a secret of the picture", 0, 1, "bad")

    monkeypatch.setattr("PIL.Image.Image.load", quote)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", quote)
    with caplog.at_level(logging.DEBUG), pytest.raises(CorruptImage):
        decode(PICTURE, Limits(max_pixels=10**6))

    assert "UnicodeDecodeError" in caplog.text
    assert "secret" not in caplog.text
