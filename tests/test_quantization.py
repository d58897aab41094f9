"""quantize() and quantize_batch(): what comes back, how good it is, and what it costs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import BACKENDS, PICTURES, china, photo, with_alpha
from sklearn.cluster import KMeans as ScikitKMeans

from gpu_kmeans import elbow, quantize, quantize_batch
from gpu_kmeans.metrics import picture_wcss

on_every_backend = pytest.mark.parametrize("backend", BACKENDS)


# How good


@pytest.mark.parametrize("k", [4, 16, 64])
def test_a_palette_is_no_worse_than_scikit_learns_best_of_ten(k):
    pixels = photo(5)
    colors, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    theirs = ScikitKMeans(k, n_init=10, max_iter=20, random_state=0)
    theirs.fit(colors.astype(float), sample_weight=counts)

    ours = [quantize(pixels, k, seed=seed).wcss for seed in range(3)]

    rounding = 0.26 * len(pixels.reshape(-1, 3))  # of three channels to eight bits
    assert np.median(ours) <= 1.001 * theirs.inertia_ + rounding


@pytest.mark.parametrize("method", ["MEDIANCUT", "MAXCOVERAGE", "FASTOCTREE"])
def test_a_palette_beats_those_of_pillow(method):
    before = Image.fromarray(photo(3))
    after = before.quantize(32, getattr(Image.Quantize, method), dither=Image.Dither.NONE)

    image = quantize(photo(3), 32)

    assert image.wcss < 0.9 * picture_wcss(photo(3), np.asarray(after.convert("RGB")))


def test_a_picture_made_of_few_clear_colors_gets_exactly_these_means():
    rng = np.random.default_rng(0)
    centers = np.array([[20, 20, 20], [220, 30, 30], [30, 220, 60], [60, 60, 200]])
    pixels = (centers[rng.integers(4, size=(40, 40))] + rng.integers(-9, 10, (40, 40, 3))).astype(
        np.uint8
    )
    nearest = ((pixels[:, :, None].astype(int) - centers) ** 2).sum(axis=3).argmin(axis=2)

    image = quantize(pixels, 4)

    means = np.array([pixels[nearest == c].mean(axis=0) for c in range(4)])
    ours = image.centroids[np.argsort(image.centroids @ [1, 2, 4])]
    np.testing.assert_allclose(ours, means[np.argsort(means @ [1, 2, 4])], atol=1e-9)


@pytest.mark.parametrize("space", ["linear", "oklab"])
def test_each_space_finds_other_colors_of_a_sensible_wcss(space):
    ours, plain = quantize(photo(4), 16, space=space), quantize(photo(4), 16)

    assert not np.array_equal(ours.palette, plain.palette)
    assert plain.wcss < ours.wcss < 2.5 * plain.wcss


def test_more_colors_are_never_worse():
    wcss = [quantize(photo(10), k).wcss for k in (1, 2, 4, 8, 16)]

    assert wcss == sorted(wcss, reverse=True)


# What is said about it


@on_every_backend
@pytest.mark.parametrize("k", [1, 2, 256])
def test_every_k_a_palette_can_have_is_met(backend, k):
    image = quantize(photo(5), k, refine=0, max_iter=4, backend=backend)

    assert image.k == k
    assert image.k_reason == "asked"
    assert not image.warnings


@on_every_backend
def test_a_fit_that_is_cut_short_says_so_and_one_that_is_not_counts_its_steps(backend):
    short = quantize(photo(5), 24, refine=0, max_iter=2, tol=0.0, backend=backend)
    long = quantize(photo(5), 24, refine=0, backend=backend)

    assert (short.n_iter, short.converged) == (2, False)
    assert long.n_iter > 2
    assert long.converged
    assert long.wcss < short.wcss


def test_transparent_pixels_take_one_of_the_entries_asked_for():
    pixels = with_alpha(photo(5))

    image = quantize(pixels, 8)

    assert image.k == 8
    assert image.counts[0] == (pixels[:, :, 3] == 0).sum()
    assert (image.palette[1:, 3] > 0).all()


def test_two_entries_for_a_picture_with_transparency_are_clear_and_the_mean():
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0] = [[100, 50, 0, 255], [102, 54, 4, 255]]

    image = quantize(pixels, 2)

    assert image.palette.tolist() == [[0, 0, 0, 0], [101, 52, 2, 255]]
    assert image.wcss == 2 * (1 + 4 + 4)


def test_partial_alpha_weighs_colors_by_their_visibility():
    pixels = np.array([[[200, 0, 0, 255], [0, 0, 200, 1]]], np.uint8)

    image = quantize(pixels, 1)

    assert image.palette[0, 0] > 190
    assert image.palette[0, 2] < 10


@on_every_backend
@pytest.mark.parametrize("k_max", [4, 12])
def test_k_from_the_elbow_is_the_knee_of_the_curve(backend, k_max):
    image = quantize(photo(8), "elbow", k_max=k_max, backend=backend)

    assert image.curve == elbow(photo(8), k_max, backend=backend)
    assert image.k == image.curve.knee
    assert image.k_reason == "elbow"


@pytest.mark.parametrize("k", [1, "elbow", "auto"])
def test_a_palette_that_is_given_is_taken_whatever_k_is(k):
    palette = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)

    image = quantize(photo(16), k, palette=palette)

    np.testing.assert_array_equal(image.palette, palette)


def test_a_curve_without_a_knee_takes_its_last_k_and_says_so():
    pixels = np.array([[[0, 0, 0], [60, 0, 0], [120, 0, 0], [190, 0, 0]]], np.uint8)

    image = quantize(pixels, "elbow", k_max=2)

    assert image.curve.knee is None
    assert image.k == 2
    assert "no knee" in image.warnings[0]


@pytest.mark.parametrize("min_psnr", [20.0, 26.0])
def test_k_from_a_quality_is_the_smallest_found_that_reaches_it(min_psnr):
    image = quantize(photo(9), "auto", min_psnr=min_psnr, refine=0)

    assert image.psnr_db >= min_psnr
    assert image.k_reason == "min_psnr"
    assert quantize(photo(9), image.k - 1, refine=0).psnr_db < min_psnr


def test_a_quality_out_of_reach_takes_every_color_and_says_so():
    image = quantize(photo(12), "auto", min_psnr=90.0, refine=0)

    assert image.k == 256
    assert "not min_psnr=90" in image.warnings[0]


def test_a_quality_that_anything_meets_takes_one_color():
    assert quantize(photo(12), "auto", min_psnr=0.0, refine=0).k == 1


def test_seeds_beyond_64_bits_are_taken():
    assert quantize(photo(12), 4, seed=2**70).seed == 2**70


def test_an_empty_batch_is_an_empty_list():
    assert quantize_batch([]) == []


@on_every_backend
def test_progress_over_a_batch_rises(backend):
    shares = []

    quantize_batch(
        [photo(8), PICTURES["noise"]], 6, curve=True, on_progress=shares.append, backend=backend
    )

    assert len(shares) > 4
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1


@pytest.mark.parametrize("options", [{}, {"curve": True}, {"k": "elbow"}, {"k": "auto"}], ids=str)
def test_what_the_progress_hook_raises_ends_the_work(options):
    def stop(_):
        raise TimeoutError("enough")

    with pytest.raises(TimeoutError, match="enough"):
        quantize(photo(8), **{"k": 8, **options}, on_progress=stop)


# What it costs

MEASURE = """
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from gpu_kmeans import quantize
from gpu_kmeans.backends import backend_for

def high_water_mb():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

backend_for(torch.device("cpu"))
small = Image.fromarray(load_sample_image("china.jpg"))
pixels = np.asarray(small.resize((1600, 1200), Image.Resampling.BICUBIC)).copy()
pixels ^= np.random.default_rng(0).integers(0, 8, pixels.shape, np.uint8)
before = high_water_mb()
quantize(pixels, 256, dither=float(sys.argv[1]), curve=sys.argv[1] != "0")
print(high_water_mb() - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux's /proc"
)
@pytest.mark.parametrize("dither", ["0", "0.5"], ids="dither{}".format)
def test_two_megapixels_in_256_colors_take_less_than_600_mb(dither):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, dither], capture_output=True, text=True, check=True
    )

    assert float(done.stdout) < 600


def test_the_whole_photograph_loses_little_in_64_colors():
    image = quantize(china(), 64)

    assert image.psnr_db > 31.5
    assert image.unique_colors == 96_615
