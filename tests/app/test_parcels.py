"""Parcels: what is unpacked is what was packed, and arrays are not copied into the pickle."""

import pickle

import numpy as np
import pytest

from app.parcels import WORD, pack, unpack

RANDOM = np.random.default_rng(0)


def carried(pieces):
    """Read what was sent as a pipe gives it: any number of bytes at a time."""
    stream = memoryview(b"".join(bytes(piece) for piece in pieces))
    place = 0

    def receive_into(view):
        nonlocal place
        view[:] = stream[place : place + len(view)]
        place += len(view)

    found = unpack(receive_into)
    assert place == len(stream)
    return found


@pytest.mark.parametrize(
    "array",
    [
        RANDOM.integers(0, 255, (64, 48, 3)).astype(np.uint8),
        RANDOM.normal(size=(3000, 2)),
        RANDOM.normal(size=(70, 80)).T,
        RANDOM.normal(size=(70, 80))[::2],
        np.empty((0, 3)),
    ],
)
def test_what_is_unpacked_is_what_was_packed(array):
    is_object, (name, found, small) = carried(pack(("name", array, array[:1])))

    assert is_object
    assert name == "name"
    for one, other in [(found, array), (small, array[:1])]:
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    found[...] = 0  # it is whoever's who unpacks it


def test_large_arrays_travel_beside_the_pickle_without_a_copy():
    array = RANDOM.integers(0, 255, 100_000).astype(np.uint8)

    pickled, beside = pack({"array": array})

    assert len(pickled) < 500
    assert np.shares_memory(np.frombuffer(beside, np.uint8), array)


def test_a_word_has_no_object():
    assert carried([WORD]) == (False, None)


def test_what_cannot_travel_says_so_before_anything_is_sent():
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        pack(lambda: None)
