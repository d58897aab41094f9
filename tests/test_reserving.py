"""Reserved colours are in the palette, first and as given, and no pixel of theirs changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import BACKENDS, PICTURES, photo, same, small_pictures, with_alpha

from gpu_kmeans import OptionError, ShapeError, quantize

FLAGS = np.array([[255, 0, 0], [0, 0, 0], [255, 255, 255]], np.uint8)


def marked(step=8):
    """A photograph with a few pixels of pure red in it."""
    pixels = photo(step).copy()
    pixels[3, 4:7] = FLAGS[0]
    return pixels


@pytest.mark.parametrize("k", [3, 4, 16, 256])
@pytest.mark.parametrize("space", ["rgb", "linear", "oklab"])
def test_reserved_colours_come_first_as_given_and_k_is_kept(k, space):
    image = quantize(marked(), k, reserve=FLAGS, space=space)

    assert image.k <= k
    np.testing.assert_array_equal(image.palette[:3], FLAGS)
    assert len(np.unique(image.palette, axis=0)) == image.k


@pytest.mark.parametrize("dither", [0.0, 1.0])
def test_pixels_of_a_reserved_colour_keep_it(dither):
    image = quantize(marked(), 8, reserve=FLAGS, dither=dither)

    assert (image.to_pixels()[3, 4:7] == FLAGS[0]).all()


def test_a_reserved_colour_stays_where_no_pixel_takes_it():
    image = quantize(photo(8), 8, reserve=np.array([[255, 0, 255]], np.uint8))

    assert image.counts[0] == 0
    assert image.counts.sum() == image.indices.size


def test_computed_colours_lie_where_the_reserved_ones_leave_the_most_to_do():
    pixels = marked()
    plain, around = quantize(pixels, 16), quantize(pixels, 19, reserve=FLAGS)

    assert around.wcss < 1.02 * plain.wcss


def test_a_mean_of_the_picture_reserved_costs_nothing():
    plain = quantize(photo(8), 16)

    around = quantize(photo(8), 16, reserve=plain.palette[[3, 9]])

    assert around.wcss < 1.05 * plain.wcss


def test_few_colours_are_kept_beside_the_reserved_ones():
    image = quantize(PICTURES["dark-neighbors"], 7, reserve=FLAGS)

    assert (image.wcss, image.k_reason, image.k) == (0, "distinct colors", 6)
    assert image.warnings == ("there are only 6 distinct colours, reserved ones included",)


@pytest.mark.parametrize(
    "pixels", [photo(8), np.zeros((4, 4, 4), np.uint8)], ids=["photo", "clear"]
)
def test_more_reserved_colours_than_the_elbow_says_are_all_there(pixels):
    image = quantize(pixels, "elbow", k_max=3, reserve=FLAGS)

    assert image.k >= 3
    assert {tuple(flag) for flag in FLAGS} <= {tuple(entry[:3]) for entry in image.palette}


@pytest.mark.parametrize("refine", [0, 1])
def test_iterations_around_reserved_colours_are_counted_and_bounded(refine):
    whole, short, rough = (
        quantize(marked(), 16, reserve=FLAGS, refine=refine, **stop)
        for stop in ({}, {"max_iter": 1}, {"tol": 10.0})
    )

    assert whole.n_iter > 1
    assert whole.converged
    assert (short.n_iter, short.converged) == (1, False)
    assert (rough.n_iter, rough.converged) == (1, True)
    assert whole.wcss < short.wcss


def test_reserved_colours_beyond_the_knee_are_said_to_decide():
    reserve = np.unique(photo(64).reshape(-1, 3), axis=0)[:30]

    image = quantize(photo(8), "elbow", reserve=reserve)

    assert (image.k, image.k_reason) == (30, "elbow")
    assert "30" in image.warnings[-1]


def test_transparency_takes_an_entry_of_its_own_and_first():
    pixels = with_alpha(photo(8))

    image = quantize(pixels, 9, reserve=FLAGS)

    assert image.palette[0].tolist() == [0, 0, 0, 0]
    np.testing.assert_array_equal(image.palette[1:4, :3], FLAGS)
    assert image.k <= 9
    assert (image.to_pixels()[pixels[..., 3] == 0] == 0).all()


@pytest.mark.parametrize("dither", [0.0, 0.7])
def test_every_backend_gives_the_same_bits(dither):
    first, *others = (
        quantize(marked(24), 12, reserve=FLAGS, dither=dither, backend=name) for name in BACKENDS
    )

    assert all(same(first, other) for other in others)


@settings(max_examples=25)
@given(small_pictures(), st.integers(4, 9))
def test_any_picture_takes_reserved_colours(pixels, k):
    image = quantize(pixels, k, reserve=FLAGS)

    entries = {tuple(color[:3]) for color in image.palette.tolist()}
    assert {tuple(color) for color in FLAGS.tolist()} <= entries
    assert image.k <= k


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"k": 2, "reserve": FLAGS}, OptionError),
        ({"k": 9, "reserve": FLAGS, "palette": FLAGS}, OptionError),
        ({"k": 9, "reserve": FLAGS[:0]}, OptionError),
        ({"k": 9, "reserve": FLAGS.astype(float)}, ShapeError),
        ({"k": 9, "reserve": np.zeros((1, 4), np.uint8)}, ShapeError),
    ],
    ids=["more than k", "beside a palette", "none", "not 8 bits", "alpha for an opaque picture"],
)
def test_what_cannot_be_reserved_is_refused(keywords, error):
    with pytest.raises(error, match="reserve"):
        quantize(photo(16), **keywords)
