"""As many colours as were asked for, or a word about it."""

import numpy as np
import pytest
import torch

from gpu_kmeans import quantize

Y, X = np.mgrid[:32, :32]
GREYS = np.stack([X * Y // 4] * 3, axis=-1).astype(np.uint8)
FADING = np.stack([X * 8, Y * 8, 0 * X, np.minimum(255, X * 9)], axis=-1).astype(np.uint8)
BYTES = {"solid": True, "thrift": 0.5, "space": "oklab"}


@pytest.mark.parametrize(
    ("pixels", "k", "options"),
    [(GREYS, 32, {"thrift": 10}), (FADING, 128, BYTES), (FADING, 256, BYTES)],
)
def test_an_entry_that_no_pixel_went_to_serves_others(pixels, k, options, device):
    picture = torch.from_numpy(pixels).to(device)
    image = quantize(picture, k, curve=False, **options)
    plain = quantize(picture, k, curve=False, backend="reference", **options)

    assert (image.k, image.k_reason, image.warnings) == (k, "asked", ())
    assert len(torch.unique(image.palette, dim=0)) == k
    assert bool((image.counts > 0).all())
    assert torch.equal(image.indices, plain.indices)
    assert torch.equal(image.palette, plain.palette)


def test_reserved_colours_stay_where_others_are_found_for_the_rest():
    reserve = np.array([[255, 0, 255], [0, 255, 0]], np.uint8)
    image = quantize(GREYS, 34, curve=False, thrift=10, reserve=reserve)

    assert image.k == 34
    assert (image.palette[:2] == reserve).all()


def test_entries_that_stay_without_a_pixel_are_warned_of():
    rng = np.random.default_rng(1)
    ramp = np.stack([X * 7, Y * 7, (X + Y) * 3], axis=-1)
    pixels = (ramp + rng.integers(0, 20, ramp.shape)).astype(np.uint8)
    image = quantize(pixels, 256, curve=False, **BYTES | {"thrift": 2})

    assert image.k < 256
    missing = 256 - image.k
    assert image.warnings == (f"no pixel went to {missing} of 256 entries, which are left out",)
