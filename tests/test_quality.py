"""The score of a picture: what it promises of itself, and of k chosen by it."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from samples import BACKENDS, photo, same, small_pictures, with_alpha

from gpu_kmeans import OptionError, ShapeError, quantize
from gpu_kmeans.backends import backend_for
from gpu_kmeans.quality import picture_quality


def shaded(pixels, levels):
    """The picture with every channel rounded to few levels."""
    step = 256 // levels
    return (pixels // step * step + step // 2).astype(np.uint8)


@given(small_pictures())
def test_the_same_picture_scores_a_hundred(pixels):
    assert picture_quality(pixels, pixels) == 100


def almost_white():
    """A picture in which a pixel changes less than the score is rounded to."""
    pixels = np.full((3, 6, 3), 255, np.uint8)
    pixels[0, 0, 0] = pixels[2, 4, 1] = 0
    return pixels


@given(small_pictures())
@example(almost_white())
def test_a_score_lies_between_0_and_100_and_only_the_same_has_100(pixels):
    changed = pixels.copy()
    changed[0, 0, 0] ^= 128
    if changed.shape[2] == 4:
        changed[0, 0, 3] ^= 128

    assert 0 <= picture_quality(pixels, changed) < 100


def test_the_score_falls_with_the_levels():
    pixels = photo(4)

    scores = [picture_quality(pixels, shaded(pixels, levels)) for levels in (128, 32, 8, 4)]

    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 90
    assert scores[-1] < 30


def test_a_change_of_color_alone_is_seen():
    pixels = np.full((32, 32, 3), 128, np.uint8)
    redder = pixels + np.array([40, 0, 0], np.uint8)

    assert picture_quality(pixels, redder) < 90


def test_what_alpha_hides_does_not_count_and_alpha_itself_does():
    pixels = with_alpha(photo(8))
    hidden, thinner = pixels.copy(), pixels.copy()
    hidden[pixels[..., 3] == 0, :3] ^= 255
    thinner[..., 3] //= 2

    assert picture_quality(pixels, hidden) == 100
    assert picture_quality(pixels, thinner) < 60


def test_pictures_of_two_shapes_have_no_score():
    with pytest.raises(ShapeError):
        picture_quality(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3, 3), np.uint8))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (8, 8), (45, 70)])
def test_every_backend_sums_the_same_blocks(backend, shape):
    rng = np.random.default_rng(0)
    before, after = (torch.from_numpy(rng.integers(0, 2041, (n, 3))).float() for n in (30, 9))
    inverse = torch.from_numpy(rng.integers(0, 30, shape)).int()
    indices = torch.from_numpy(rng.integers(0, 9, shape)).byte()
    cpu = torch.device("cpu")

    found, wanted = (
        backend_for(cpu, name).block_moments(before, inverse, after, indices, 4)
        for name in (backend, "reference")
    )

    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("alpha", [False, True])
def test_k_from_a_quality_has_the_same_bits(backend, alpha):
    pixels = with_alpha(photo(12)) if alpha else photo(12)

    image = quantize(pixels, "auto", min_quality=40.0, refine=0, backend=backend)

    assert image.quality >= 40
    assert image.quality == picture_quality(pixels, image.to_pixels())
    assert same(image, quantize(pixels, "auto", min_quality=40.0, refine=0, backend="reference"))


def test_k_from_a_quality_is_the_smallest_found_that_reaches_it():
    image = quantize(photo(9), "auto", min_quality=60.0, refine=0)

    fewer = quantize(photo(9), image.k - 1, refine=0)
    assert image.k_reason == "min_quality"
    assert picture_quality(photo(9), fewer.to_pixels()) < 60 <= image.quality


def test_of_two_targets_both_are_reached_and_the_harder_is_the_reason():
    by_psnr = quantize(photo(9), "auto", min_psnr=30.0, min_quality=10.0, refine=0)
    by_quality = quantize(photo(9), "auto", min_psnr=15.0, min_quality=70.0, refine=0)

    assert (by_psnr.k_reason, by_quality.k_reason) == ("min_psnr", "min_quality")
    assert by_psnr.psnr_db >= 30
    assert by_quality.quality >= 70


def test_a_number_beside_a_target_is_the_most_colors_there_may_be():
    few = quantize(photo(12), 8, min_quality=90.0, refine=0)

    assert few.k == 8
    assert few.k_reason == "asked"
    assert "8 colours reach a quality of" in few.warnings[0]
    assert quantize(photo(12), 64, min_psnr=20.0, refine=0).k < 64


def test_a_target_starts_no_lower_than_the_reserved_colors():
    reserve = np.eye(3, dtype=np.uint8) * 200

    image = quantize(photo(12), "auto", min_psnr=1.0, reserve=reserve, refine=0)

    assert image.palette[:3].tolist() == reserve.tolist()
    assert image.k <= 4


def test_a_curve_beside_a_target_ends_at_the_k_found():
    image = quantize(photo(12), "auto", min_psnr=22.0, curve=True, refine=0)

    assert image.curve.ks[-1] == image.k


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"min_quality": 101.0}, "min_quality"),
        ({"min_quality": -1.0}, "min_quality"),
        ({"min_quality": float("nan")}, "min_quality"),
        ({"k": "elbow", "min_quality": 50.0}, "min_quality"),
        ({"k": "elbow", "min_psnr": 30.0}, "min_psnr"),
        ({"palette": np.zeros((1, 3), np.uint8), "min_psnr": 30.0}, "min_psnr"),
    ],
)
def test_a_target_that_contradicts_is_refused(options, name):
    with pytest.raises(OptionError) as refusal:
        quantize(photo(24), **options)

    assert refusal.value.name == name
