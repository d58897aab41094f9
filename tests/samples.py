"""Pictures and points that several tests of the library share."""

import functools

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.datasets import load_sample_image

from gpu_kmeans.backends import available_backends, backend_for
from gpu_kmeans.color import srgb8_to_features
from gpu_kmeans.histogram import Histogram

BACKENDS = tuple(name for name in available_backends() if name != "cuda")  # for the CPU
SEED = 20_240_229


@functools.cache
def china():
    """The photograph that scikit-learn ships, 427 x 640 pixels and 96 thousand colours."""
    return load_sample_image("china.jpg").copy()


def photo(step):
    """Every so many-th pixel of it: more than 4,096 colours up to a step of 6."""
    return np.ascontiguousarray(china()[::step, ::step])


def with_alpha(pixels):
    """Let a picture fade out to the right, and be fully transparent in a corner."""
    h, w, _ = pixels.shape
    alpha = np.broadcast_to(np.linspace(255, 40, w), (h, w)).astype(np.uint8)
    alpha = np.where(np.add.outer(np.arange(h), np.arange(w)) < (h + w) // 8, 0, alpha)
    return np.dstack([pixels, alpha]).astype(np.uint8)


def noise(h, w, channels=3, levels=256):
    rng = np.random.default_rng(SEED)
    return rng.integers(0, levels, (h, w, channels)).astype(np.uint8)


PICTURES = {
    "1x1": np.array([[[7, 0, 255]]], np.uint8),
    "one-color": np.full((5, 9, 3), 77, np.uint8),
    "two-colors": np.tile(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8), (6, 4, 1)),
    "dark-neighbors": np.array([[[1, 1, 1], [2, 2, 2], [3, 2, 2], [255, 0, 0]]], np.uint8),
    "grey-ramp": np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2),
    "column": noise(70, 1),
    "noise": noise(24, 17),
    "few-levels": noise(24, 17, levels=4) * np.uint8(85),
    "noise-alpha": noise(19, 23, channels=4),
    "all-transparent": noise(4, 4, channels=4) * np.array([1, 1, 1, 0], np.uint8),
    "opaque-alpha": np.dstack([noise(8, 9), np.full((8, 9), 255, np.uint8)]),
}


POINTS = {
    "gaussian": lambda rng, n, d: rng.normal(size=(n, d)),
    "far-away": lambda rng, n, d: 1000 + rng.normal(size=(n, d)),
    "ties": lambda rng, n, d: rng.integers(-3, 4, (n, d)) / 10,
    "copies": lambda rng, n, d: rng.normal(size=(7, d))[rng.integers(7, size=n)],
    "one-point": lambda rng, n, d: np.tile(rng.normal(size=d), (n, 1)),
    "line": lambda _, n, d: np.linspace(0, 1, n)[:, None] * np.ones(d),
    "many-scales": lambda rng, n, d: rng.normal(size=(n, d)) * 10.0 ** rng.integers(-6, 5, (n, 1)),
}


def problem_of(kind, n, d, dtype, k):
    """Points, weights and centroids: copies of points, ties, duplicates, and one far off."""
    rng = np.random.default_rng(SEED + n + d)
    points = POINTS[kind](rng, n, d)
    near = points[rng.integers(n, size=k)] + rng.choice([0, 0.1], (k, 1))
    centroids = np.concatenate([near, near[:1], 1e4 + near[-1:]])
    tensors = (torch.from_numpy(values).to(dtype) for values in (points, centroids))
    return *tensors, torch.from_numpy(rng.uniform(0.1, 3, n))


def assert_sums_agree(ours, theirs, problem):
    """Equal to rounding: relative to the absolute values that were added up."""
    size = float((problem.points.double().abs() * problem.weights[:, None]).sum()) + 1e-300
    square = float((problem.points.double() ** 2 * problem.weights[:, None]).sum()) + 1e-300
    torch.testing.assert_close(ours.sums, theirs.sums, rtol=0, atol=1e-12 * size)
    torch.testing.assert_close(ours.masses, theirs.masses, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.squares, theirs.squares, rtol=0, atol=1e-12 * square)
    # The reference adds up a distance in the points' type, a rounding for each dimension.
    rounding = max(8, problem.points.shape[1]) * torch.finfo(problem.points.dtype).eps
    torch.testing.assert_close(ours.wcss, theirs.wcss, rtol=rounding, atol=1e-12 * square)
    torch.testing.assert_close(ours.utilities, theirs.utilities, rtol=1e-5, atol=1e-5 * square)


def color_problem(n, channels, space="rgb", levels=256):
    """The distinct colours of noise, as a backend gets them: on the grid, in Morton order."""
    reference = backend_for(torch.device("cpu"), "reference")
    histogram = Histogram.from_pixels(torch.from_numpy(noise(1, n, channels, levels)), reference)
    return srgb8_to_features(histogram.colors, space), histogram.counts.double()


def entries_and_own(features, space, k):
    """A palette, every third entry of it a colour of the picture; which colours have such one."""
    entries = srgb8_to_features(torch.from_numpy(noise(1, k, features.shape[1])[0]), space)
    some = features[:: max(1, len(features) // k)][:k:3]
    entries[: 3 * len(some) : 3] = some
    is_same = (features[:, None] == entries).all(dim=2)
    return entries, torch.where(is_same.any(dim=1), is_same.long().argmax(dim=1), -1)


def assert_bits_agree(ours, theirs):
    for name in ("sums", "masses", "wcss", "labels", "squares", "utilities"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


def blobs(n, d, centers, seed=SEED, spread=1.0):
    """Points around several centres, float64 (n, d)."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-9, 9, (centers, d))[rng.integers(centers, size=n)] + spread * rng.normal(
        size=(n, d)
    )


def same(one, other):
    """Compare two quantized pictures bit for bit, in everything but who computed them."""
    arrays = ("indices", "palette", "counts", "centroids")
    values = ("wcss", "psnr_db", "k_reason", "unique_colors", "curve", "n_iter", "converged")
    for name in arrays:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name in (*values, "seed", "warnings"):
        assert getattr(one, name) == getattr(other, name), name
    return True


@st.composite
def small_pictures(draw, channels=(3, 4)):
    """Up to 64 pixels, often with few colours, transparent ones among them."""
    shape = (
        *draw(st.tuples(st.integers(1, 8), st.integers(1, 8))),
        draw(st.sampled_from(channels)),
    )
    levels = draw(st.sampled_from([[0, 1, 128, 255], list(range(0, 256, 16)), list(range(256))]))
    return draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from(levels)))


@st.composite
def lattice_points(draw, max_n=40):
    """Points on a coarse grid, so that there are ties and copies, and every sum is exact."""
    shape = (draw(st.integers(1, max_n)), draw(st.integers(1, 5)))
    return draw(hnp.arrays(np.float64, shape, elements=st.integers(-4, 4).map(float)))


@st.composite
def scattered_points(draw, max_n=40):
    """Points anywhere within a thousand, copies among them, none so near that squares vanish."""
    shape = (draw(st.integers(1, max_n)), draw(st.integers(1, 5)))
    visible = st.floats(-1000, 1000).map(lambda value: value if abs(value) > 1e-100 else 0.0)
    elements = visible | st.just(0.1)
    return draw(hnp.arrays(np.float64, shape, elements=elements))


def any_points(max_n=40):
    return lattice_points(max_n) | scattered_points(max_n)


def whole_weights(n, *, low=0):
    """Weights that are whole numbers, at least one of them positive."""
    weights = hnp.arrays(np.float64, n, elements=st.integers(low, 4).map(float))
    return weights.filter(lambda values: values.any())
