"""What `make bench-looks` measures by, against the package it speeds up and pictures by hand."""

import numpy as np
import pytest
from PIL import Image
from samples import noise, photo

looks = pytest.importorskip("benchmarks.looks", reason="the benchmarks' packages are an extra")


@pytest.mark.parametrize("k", [3, 40])
def test_ssimulacra2_is_the_packages(tmp_path, k):
    from ssimulacra2 import compute_ssimulacra2

    pixels = photo(4)
    after = (pixels // (256 // k)) * (256 // k)
    paths = [tmp_path / "before.png", tmp_path / "after.png"]
    for path, picture in zip(paths, (pixels, after), strict=True):
        Image.fromarray(picture).save(path)

    ours = looks.Scorer(pixels).score(after)

    assert ours == pytest.approx(compute_ssimulacra2(*map(str, paths)), abs=1e-6)


def test_the_worst_area_is_the_one_farthest_off():
    pixels = np.full((40, 50, 3), 200, np.uint8)
    pixels[5:10, 5:10] = (200, 0, 0)
    pixels[20, 20] = (0, 0, 255)  # too small to mean anything: 0.05 % of the picture
    original, after = looks.Original.of(pixels), pixels.copy()
    after[20, 20], after[30:] = 0, 190

    def worst() -> float:
        return original.measure(after)["ciede_area"]

    shade = worst()
    after[5:10, 5:10] = (200, 60, 0)

    assert 0 < shade < worst()
    assert looks.Original.of(pixels).measure(pixels)["ciede_area"] == 0


def test_a_picture_without_areas_of_one_colour_has_no_worst_one():
    pixels = noise(60, 60)

    assert looks.Original.of(pixels).measure(pixels // 64 * 64)["ciede_area"] is None


def test_a_curve_that_takes_a_tenth_more_everywhere_has_a_rate_of_ten():
    curve = [{"bytes": 1000.0 * 2**i, "ssimulacra2": 20.0 * i} for i in range(5)]
    larger = [point | {"bytes": point["bytes"] * 1.1} for point in curve]

    assert looks.bd_rate(larger, curve) == pytest.approx(10)
    assert looks.bd_rate(curve, curve) == pytest.approx(0)
    assert looks.bd_rate(curve[:2], curve[3:]) is None
