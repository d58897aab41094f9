"""WCSS of two pictures and PSNR, recomputed in other ways."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from samples import noise, photo, small_pictures
from skimage.metrics import peak_signal_noise_ratio

from gpu_kmeans import ShapeError
from gpu_kmeans.metrics import picture_wcss, psnr_db
from gpu_kmeans.quality import picture_quality


@given(small_pictures(channels=(3,)))
def test_wcss_of_opaque_pictures_is_the_sum_of_squared_differences(before):
    after = before[::-1, ::-1]

    expected = ((before.astype(float) - after) ** 2).sum()
    assert picture_wcss(before, after) == picture_wcss(after, before) == expected


@given(small_pictures(channels=(4,)))
def test_wcss_with_alpha_is_that_of_the_premultiplied_channels(before):
    after = before[::-1, ::-1]

    def premultiplied(pixels):
        values = pixels.astype(float)
        return np.dstack([values[:, :, :3] * values[:, :, 3:] / 255, values[:, :, 3]])

    expected = ((premultiplied(before) - premultiplied(after)) ** 2).sum()
    assert picture_wcss(before, after) == pytest.approx(expected, rel=1e-12)


def test_what_is_hidden_by_transparency_does_not_count():
    before, after = noise(4, 5, channels=4), noise(4, 5, channels=4)
    after[:, :, :3] = 255 - after[:, :, :3]
    before[:, :, 3] = after[:, :, 3] = 0

    assert picture_wcss(before, after) == 0


def test_wcss_is_exact_beyond_what_float32_holds():
    before = np.zeros((1500, 1000, 3), np.uint8)
    after = np.full_like(before, 255)
    after[0, 0, 0] = 254

    assert picture_wcss(before, after) == 4_500_000 * 255**2 - 255**2 + 254**2


def test_arrays_and_tensors_may_be_compared():
    before, after = photo(20), photo(20)[::-1]

    mixed = picture_wcss(torch.from_numpy(before), torch.from_numpy(after.copy()))

    assert mixed == picture_wcss(before, after)


NO_PICTURES = {
    "empty": np.zeros((0, 4, 3), np.uint8),
    "grey": np.zeros((5, 4), np.uint8),
    "one-channel": np.zeros((5, 4, 1), np.uint8),
    "float": np.zeros((5, 4, 3)),
    "words": [["black"]],
}


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("compare", [picture_wcss, picture_quality], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_is_refused(compare, name):
    with pytest.raises(ShapeError, match=r"picture|real numbers"):
        compare(NO_PICTURES[name], NO_PICTURES[name])


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("shape", [(4, 5, 3), (5, 4, 4), (4, 4, 3)], ids=str)
def test_pictures_of_different_shapes_are_refused(shape):
    with pytest.raises(ShapeError, match="one shape"):
        picture_wcss(np.zeros((5, 4, 3), np.uint8), np.zeros(shape, np.uint8))


@pytest.mark.parametrize("step", [5, 20])
def test_psnr_is_what_scikit_image_computes(step):
    before = photo(step)
    after = before // 16 * 16 + 8

    assert psnr_db(picture_wcss(before, after), before.shape) == pytest.approx(
        peak_signal_noise_ratio(before, after)
    )


def test_psnr_of_equal_pictures_is_none_and_of_the_worst_zero():
    assert psnr_db(0.0, (2, 2, 3)) is None
    assert psnr_db(12 * 255.0**2, (2, 2, 3)) == 0
    assert math.isfinite(psnr_db(1e-300, (2, 2, 3)))
