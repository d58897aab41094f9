"""Colour spaces against published values, and the grid on which colours are clustered."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.color import rgb2xyz

from gpu_kmeans import OptionError, color
from gpu_kmeans.color import (
    GRID,
    SPACES,
    check_space,
    features_to_srgb,
    linear_to_oklab,
    linear_to_srgb,
    oklab_to_linear,
    srgb8_to_features,
    srgb_to_linear,
)

# From the sample colours of CSS Color 4 (W3C) for `oklab()`, to five digits.
OKLAB = {
    "white": ((255, 255, 255), (1.0, 0.0, 0.0)),
    "black": ((0, 0, 0), (0.0, 0.0, 0.0)),
    "red": ((255, 0, 0), (0.62796, 0.22486, 0.12585)),
    "lime": ((0, 255, 0), (0.86644, -0.23389, 0.17950)),
    "blue": ((0, 0, 255), (0.45201, -0.03246, -0.31153)),
    "rebeccapurple": ((102, 51, 153), (0.44027, 0.08818, -0.13386)),
    "cyan": ((0, 255, 255), (0.90540, -0.14944, -0.03940)),
    "magenta": ((255, 0, 255), (0.70167, 0.27457, -0.16916)),
    "yellow": ((255, 255, 0), (0.96798, -0.07137, 0.19857)),
}
# From the table of Ottosson's article: XYZ (D65) and Oklab, to three digits.
XYZ = [
    ((0.950, 1.000, 1.089), (1.000, 0.000, 0.000)),
    ((1.000, 0.000, 0.000), (0.450, 1.236, -0.019)),
    ((0.000, 1.000, 0.000), (0.922, -0.671, 0.263)),
]
SRGB_TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750]]
SRGB_TO_XYZ += [[0.0193339, 0.1191920, 0.9503041]]


def oklab_of(srgb8):
    levels = torch.tensor([srgb8], dtype=torch.float64) / 255
    return linear_to_oklab(srgb_to_linear(levels))


@pytest.mark.parametrize("name", OKLAB)
def test_oklab_has_the_published_values_of_named_colors(name):
    srgb8, expected = OKLAB[name]

    np.testing.assert_allclose(oklab_of(srgb8)[0], expected, atol=2e-5)


@pytest.mark.parametrize(("xyz", "expected"), XYZ, ids=str)
def test_oklab_has_the_values_of_its_authors_table(xyz, expected):
    linear = np.linalg.solve(np.array(SRGB_TO_XYZ), xyz)

    oklab = linear_to_oklab(torch.from_numpy(linear)[None])[0]
    np.testing.assert_allclose(oklab, expected, atol=1.5e-3)


def test_linear_light_is_what_scikit_image_takes_it_for():
    grey = np.arange(256) / 255

    ours = srgb_to_linear(torch.from_numpy(grey)[:, None])[:, 0]

    luminance = rgb2xyz(np.repeat(grey[:, None], 3, axis=1))[:, 1]  # of grey, linear light itself
    np.testing.assert_allclose(ours, luminance, atol=1e-6)


@given(hnp.arrays(np.float64, (7, 3), elements=st.floats(0, 1)))
def test_the_transfer_function_and_oklab_can_be_undone(values):
    srgb = torch.from_numpy(values)
    linear = srgb_to_linear(srgb)

    torch.testing.assert_close(linear_to_srgb(linear), srgb, rtol=0, atol=1e-6)
    torch.testing.assert_close(oklab_to_linear(linear_to_oklab(linear)), linear, rtol=0, atol=1e-6)


def test_srgb_to_oklab_and_back_is_the_identity_on_every_color():
    levels = torch.arange(256, dtype=torch.float64) / 255
    linear = srgb_to_linear(levels[:, None])[:, 0]
    for red in range(0, 256, 15):  # every green and blue at eighteen reds
        green, blue = torch.meshgrid(linear, linear, indexing="ij")
        colors = torch.stack([torch.full_like(green, linear[red]), green, blue], -1).reshape(-1, 3)

        back = linear_to_srgb(oklab_to_linear(linear_to_oklab(colors))) * 255

        expected = torch.cartesian_prod(torch.tensor([red]), torch.arange(256), torch.arange(256))
        assert torch.equal(back.round().long(), expected)


def all_levels(channels):
    ramp = torch.arange(256, dtype=torch.uint8)
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.integers(0, 256, (4000, channels)).astype(np.uint8))
    return torch.cat([ramp[:, None].repeat(1, channels), noise])


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("space", SPACES)
def test_features_are_whole_numbers_on_the_grid(space, channels):
    features = srgb8_to_features(all_levels(channels), space)

    assert features.dtype == torch.float32
    assert torch.equal(features, features.floor())
    assert features.min() >= 0
    assert features.max() <= GRID
    assert channels * GRID**2 < 2**24 + 2**16  # so that squared distances are exact in float32


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("space", SPACES)
def test_the_compiled_features_are_those_of_the_definition(space, channels):
    """All 2^24 colours were compared once, in Oklab."""
    greys = torch.arange(256, dtype=torch.uint8)[:, None].repeat(1, channels)
    rng = np.random.default_rng(1)
    sample = torch.from_numpy(rng.integers(0, 256, (1 << 18, channels)).astype(np.uint8))
    for colors in (greys, sample, sample.flip(1)[:1], sample[:0], sample[::7]):
        ours = srgb8_to_features(colors, space)

        assert torch.equal(ours, color._defined_features(colors, space))


def test_squared_distances_on_the_grid_are_exact_in_float32():
    assert 4 * GRID**2 < 2**24


@pytest.mark.parametrize("space", ["rgb", "oklab"])
def test_a_grey_comes_back_from_the_grid(space):
    ramp = torch.arange(256, dtype=torch.uint8)[:, None].repeat(1, 3)

    back = features_to_srgb(srgb8_to_features(ramp, space), space)

    assert torch.equal((back + 0.5).floor().to(torch.uint8), ramp)


def test_rgb_colors_come_back_from_the_grid_exactly():
    colors = all_levels(3)

    assert torch.equal(features_to_srgb(srgb8_to_features(colors, "rgb"), "rgb"), colors.double())


@pytest.mark.parametrize("space", SPACES)
def test_colors_come_back_from_the_grid_to_within_its_step(space):
    colors = all_levels(3)
    colors = colors[(colors > 60).all(dim=1)]  # linear light is coarse in the dark

    back = features_to_srgb(srgb8_to_features(colors, space), space)

    off = 1.0 if space == "rgb" else 2.0
    assert (back - colors.double()).abs().max() <= off


@pytest.mark.parametrize("space", SPACES)
@given(hnp.arrays(np.float64, (5, 4), elements=st.floats(0, GRID)))
def test_any_point_of_the_grid_is_a_color(space, values):
    for points in (torch.from_numpy(values), torch.from_numpy(values[:, :3].copy())):
        colors = features_to_srgb(points, space)

        assert colors.isfinite().all()
        assert colors.min() >= 0
        assert colors.max() <= 255 + 1e-9


@pytest.mark.parametrize("space", SPACES)
def test_an_opaque_color_has_the_same_features_with_and_without_alpha(space):
    colors = all_levels(3)
    opaque = torch.cat([colors, torch.full_like(colors[:, :1], 255)], dim=1)

    features = srgb8_to_features(opaque, space)

    assert torch.equal(features[:, :3], srgb8_to_features(colors, space))
    assert (features[:, 3] == (GRID / 2 if space == "oklab" else GRID)).all()


@pytest.mark.parametrize("space", SPACES)
def test_colors_are_the_closer_the_more_transparent_they_are(space):
    colors = torch.tensor([[255, 0, 0], [0, 0, 255]], dtype=torch.uint8)
    distances = []
    for alpha in (0, 85, 170, 255):
        pair = torch.cat([colors, torch.full((2, 1), alpha, dtype=torch.uint8)], dim=1)
        one, two = srgb8_to_features(pair, space)
        distances.append(float(((one - two) ** 2).sum()))

    assert distances[0] == 0
    assert distances == sorted(distances)


@pytest.mark.parametrize("alpha", [1, 40, 128, 255])
def test_straight_colors_come_back_from_premultiplied_features(alpha):
    colors = torch.cat([all_levels(3), torch.full((4256, 1), alpha, dtype=torch.uint8)], dim=1)

    back = features_to_srgb(srgb8_to_features(colors, "rgb"), "rgb")

    assert (back[:, 3] == alpha).all()
    assert (back - colors.double()).abs().max() <= 0.5 / 8 * 255 / alpha + 1e-9


@pytest.mark.parametrize("space", ["RGB", "lab", "", "srgb"])
def test_a_space_that_does_not_exist_is_refused(space):
    with pytest.raises(OptionError, match=r"space=.*oklab"):
        check_space(space)
