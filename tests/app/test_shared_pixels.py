"""Room shared with the processes that compute: a place is a picture's until nobody holds it."""

import os

import numpy as np
import pytest
import torch

from app.jobs import QuantizeJob
from app.lanes import LaneProcess, OwnLane
from app.nursery import Nursery
from app.parcels import pack, unpack
from app.shared_pixels import SharedRoom

CPU = torch.device("cpu")
SMALL = 300_000  # bytes


@pytest.fixture
def room():
    return SharedRoom(2)


def test_places_are_given_until_there_are_none_and_then_other_memory(room):
    one, other, third = (room.array(SMALL) for _ in range(3))

    places = [room.place_of(array.data) for array in (one, other, third)]
    assert None not in places[:2]
    assert places[0] != places[1]
    assert places[2] is None
    assert len(third) == SMALL


def test_what_is_too_large_for_a_place_has_memory_of_its_own(room):
    assert room.place_of(room.array((1 << 22) + 1).data) is None
    assert room.place_of(room.array(1 << 22).data) is not None


def test_a_place_is_free_again_once_nobody_holds_a_view_of_it(room):
    held = [room.array(SMALL).reshape(100, 1000, 3)[5:] for _ in range(2)]
    assert room.place_of(room.array(SMALL).data) is None

    held.pop()

    assert room.place_of(room.array(SMALL).data) is not None


def test_a_room_without_places_gives_memory_all_the_same():
    assert len(SharedRoom(0).array(7)) == 7


def test_what_lies_in_the_room_is_told_of_not_sent(room):
    array = room.array(SMALL)
    array[:] = np.arange(SMALL) % 251
    beside = np.arange(SMALL)

    pieces = [bytes(piece) for piece in pack((array.reshape(-1, 3)[1:], beside), room.place_of)]
    stream, place = memoryview(b"".join(pieces)), 0

    def receive_into(view):
        nonlocal place
        view[:] = stream[place : place + len(view)]
        place += len(view)

    is_object, (found, other) = unpack(receive_into, room._bytes)

    assert is_object
    assert len(stream) < beside.nbytes + 1000
    np.testing.assert_array_equal(found, array.reshape(-1, 3)[1:])
    assert np.shares_memory(found, array)
    np.testing.assert_array_equal(other, beside)


def test_a_picture_in_the_room_is_computed_like_any_other(photo):
    nursery = Nursery(os.getpriority(os.PRIO_PROCESS, 0), places=1)
    lane = LaneProcess(nursery)
    pixels = nursery.room.array(photo.size).reshape(photo.shape)
    pixels[:] = photo
    jobs = [QuantizeJob(pixels=each, options={"k": 6}) for each in (photo, pixels)]

    here = OwnLane().run(jobs[0], CPU, "cpu", 1, lambda: True)
    there = lane.run(jobs[1], CPU, "cpu", 1, lambda: True)

    np.testing.assert_array_equal(here.indices, there.indices)
    np.testing.assert_array_equal(here.palette, there.palette)
    np.testing.assert_array_equal(pixels, photo)
    lane.close()
    nursery.close()


def test_the_engine_keeps_a_picture_s_place_while_a_process_computes_it(photo, monkeypatch):
    """Its client may be gone, and with it whatever else knew of the picture."""
    monkeypatch.setattr("app.nursery._LOOK_EVERY_MS", 1)
    nursery = Nursery(os.getpriority(os.PRIO_PROCESS, 0), places=1)
    lane, seen = LaneProcess(nursery), []
    large = np.tile(photo, (4, 4, 1))

    def job():
        pixels = nursery.room.array(large.size).reshape(large.shape)
        pixels[:] = large
        return QuantizeJob(pixels=pixels, options={"k": 64, "space": "oklab", "dither": 0.6})

    def is_wanted():
        seen.append(nursery.room.place_of(nursery.room.array(9).data))
        return True

    lane.run(job(), CPU, "cpu", 1, is_wanted)

    assert seen
    assert set(seen) == {None}, "its only place is taken"
    assert nursery.room.place_of(nursery.room.array(9).data) == 0
    lane.close()
    nursery.close()
