"""Turns to hold pixels: first come first served, and nobody is forgotten."""

import asyncio

import pytest
from pictures import encoded, noise

from app.decoder import Decoder, DecoderLimits
from app.turns import Turns


def test_those_who_wait_are_served_in_order_as_far_as_there_is_room():
    async def story():
        turns, served = Turns(max_pixels=10), []

        async def hold(name, n_pixels):
            await turns.wait(n_pixels)
            served.append(name)

        assert turns.take(9)
        waiting = [asyncio.create_task(hold(name, n)) for name, n in (("a", 6), ("b", 4), ("c", 1))]
        await asyncio.sleep(0)
        assert not turns.take(1)  # it would fit, but others came before
        turns.give_back(9)
        await asyncio.gather(*waiting[:2])
        assert served == ["a", "b"]
        turns.give_back(4)
        await waiting[2]
        return turns.pixels

    assert asyncio.run(story()) == 7


def test_one_with_more_than_all_is_served_alone():
    async def story():
        turns = Turns(max_pixels=10)
        assert turns.take(50)
        assert not turns.take(1)
        turns.give_back(50)
        assert turns.take(1)
        assert not turns.take(50)

    asyncio.run(story())


@pytest.mark.parametrize("is_served", [False, True])
def test_who_leaves_holds_up_nobody(is_served):
    async def story():
        turns = Turns(max_pixels=10)
        assert turns.take(8)
        first = asyncio.create_task(turns.wait(5))
        second = asyncio.create_task(turns.wait(2))
        await asyncio.sleep(0)
        if is_served:
            turns.give_back(8)
        first.cancel()
        await asyncio.wait([first, second])
        return first.cancelled(), turns.pixels

    assert asyncio.run(story()) == (True, 2 if is_served else 10)


def test_pictures_that_do_not_fit_together_are_in_memory_one_after_the_other():
    pictures = [encoded(noise(20, 30)) for _ in range(4)]
    decoder = Decoder(DecoderLimits(max_pixels=1000), processes=2, turns=Turns(max_pixels=700))
    held, most = [], []

    async def use(picture):
        async with decoder.decoded(picture) as decoded:
            held.append(decoded.pixels.size)
            most.append(len(held))
            await asyncio.sleep(0.02)
            held.pop()

    async def all_of_them():
        await asyncio.gather(*map(use, pictures))

    try:
        asyncio.run(all_of_them())
    finally:
        decoder.close()

    assert most == [1, 1, 1, 1]
    assert decoder.turns.pixels == 0
