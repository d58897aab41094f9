"""Memory that was freed goes back to the system."""

import asyncio

from app import heaps


def test_what_is_free_is_given_back_again_and_again(monkeypatch):
    calls = []

    class Library:
        malloc_trim = staticmethod(calls.append)

    monkeypatch.setattr(heaps.ctypes, "CDLL", lambda _: Library)
    monkeypatch.setattr(heaps, "_EVERY_S", 0.001)

    async def some_time():
        giving = asyncio.create_task(heaps.give_back_for_ever())
        await asyncio.wait([giving], timeout=0.2)
        giving.cancel()

    asyncio.run(some_time())

    assert len(calls) > 1
    assert set(calls) == {0}


def test_a_library_without_such_calls_is_left_alone(monkeypatch):
    monkeypatch.setattr(heaps.ctypes, "CDLL", lambda _: object())

    heaps.share_heaps()
    asyncio.run(asyncio.wait_for(heaps.give_back_for_ever(), 1))
