"""Every backend gives the reference's answers, and the choice of one is never silent."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from samples import (
    BACKENDS,
    PICTURES,
    POINTS,
    SEED,
    assert_bits_agree,
    assert_sums_agree,
    color_problem,
    entries_and_own,
    noise,
    photo,
    problem_of,
    same,
    with_alpha,
)

from gpu_kmeans import DeviceError, OptionError, backends, elbow, kmeans, quantize, quantize_batch
from gpu_kmeans.backends import available_backends, backend_for, pixel_work
from gpu_kmeans.backends.reference import morton_codes
from gpu_kmeans.color import srgb8_to_features
from gpu_kmeans.histogram import COARSE_POINTS, Histogram
from gpu_kmeans.metrics import premultiplied

CPU = torch.device("cpu")
REFERENCE = backend_for(CPU, "reference")
OTHERS = [name for name in BACKENDS if name != "reference"]
SIZES = [1, 63, 64, 65, 512, 513, 40_000]  # around a tile of 64 points, eight tiles, a chunk


@pytest.fixture(params=OTHERS)
def engine(request):
    return backend_for(CPU, request.param)


def test_the_fast_backend_is_there_to_be_tested():
    assert "cpu" in BACKENDS


# Whole pictures, bit for bit


def spelled(options):
    """Say a case in the words of the call."""
    return "-".join(f"{name}={value}" for name, value in options.items() if name != "palette")


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize(
    "options",
    [
        {"k": 5},
        {"k": 5, "refine": 0, "space": "linear", "dither": 0.7},
        {"k": 4, "refine": 0, "space": "oklab", "dither": 1.0, "curve": True},
    ],
    ids=spelled,
)
@pytest.mark.parametrize("name", PICTURES)
def test_a_small_picture_is_quantized_to_the_same_bits(name, options, backend):
    ours = quantize(PICTURES[name], **options, backend=backend)

    assert same(ours, quantize(PICTURES[name], **options, backend="reference"))


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("min_psnr", [10.0, 18.0, 60.0])
def test_the_smallest_k_that_is_good_enough_has_the_same_bits(min_psnr, backend):
    options = {"k": "auto", "min_psnr": min_psnr, "refine": 0}

    ours = quantize(PICTURES["few-levels"], **options, backend=backend)

    assert same(ours, quantize(PICTURES["few-levels"], **options, backend="reference"))


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize(
    ("alpha", "options"),
    [
        (False, {"k": 16}),
        (False, {"k": 16, "refine": 0}),
        (False, {"k": 8, "dither": 1.0, "curve": True}),
        (False, {"k": 12, "space": "linear"}),
        (False, {"k": 9, "init": "random", "refine": 0, "n_init": 2, "seed": 3}),
        (False, {"k": 100, "max_iter": 3, "tol": 0.0, "refine": 0}),
        (False, {"k": 3, "palette": noise(1, 40)[0]}),
        (True, {"k": 16}),
        (True, {"k": 12, "space": "oklab", "dither": 0.5, "refine": 0}),
        (True, {"k": 12, "space": "linear", "refine": 0}),
        (True, {"k": "elbow", "k_max": 6}),
        (True, {"k": 3, "palette": noise(1, 40, channels=4)[0], "dither": 1.0}),
    ],
    ids=lambda value: spelled(value) if isinstance(value, dict) else ["opaque", "alpha"][value],
)
def test_a_photograph_is_quantized_to_the_same_bits(options, alpha, backend):
    pixels = with_alpha(photo(6)) if alpha else photo(6)

    ours = quantize(pixels, **options, backend=backend)

    assert ours.unique_colors > COARSE_POINTS  # so that the search runs on merged colours
    assert same(ours, quantize(pixels, **options, backend="reference"))


@pytest.mark.parametrize("backend", OTHERS)
def test_a_batch_is_quantized_to_the_same_bits(backend):
    batch = [PICTURES["noise"], photo(9), PICTURES["1x1"], PICTURES["noise-alpha"]]

    ours = quantize_batch(batch, 5, backend=backend)
    theirs = quantize_batch(batch, 5, backend="reference")

    assert all(same(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("alpha", [False, True], ids=["opaque", "alpha"])
def test_a_pictures_elbow_curve_has_the_same_bits(alpha, backend):
    pixels = with_alpha(photo(6)) if alpha else photo(6)

    assert elbow(pixels, 16, backend=backend) == elbow(pixels, 16, backend="reference")


# The contract, function by function


@pytest.mark.parametrize("n", [*SIZES, 600_001])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("levels", [1, 5, 256], ids="levels{}".format)
def test_histograms_agree_and_count_every_pixel(engine, n, channels, levels):
    pixels = torch.from_numpy(noise(1, n, channels, levels)[0])

    colors, counts, inverse = engine.histogram(pixels)

    for ours, theirs in zip((colors, counts, inverse), REFERENCE.histogram(pixels), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(colors[inverse.long()], pixels)
    assert torch.equal(counts.long(), torch.bincount(inverse, minlength=len(colors)))
    assert (morton_codes(colors).diff() > 0).all()


@pytest.mark.parametrize("kind", POINTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 6], ids="d{}".format)
def test_labels_of_points_are_equal_and_sums_equal_to_rounding(engine, kind, dtype, d):
    for n, k in [(1, 1), (63, 5), (64, 1), (65, 17), (513, 64), (2_000, 300)]:
        points, centroids, weights = problem_of(kind, n, d, dtype, k)
        ours, theirs = (
            on.assign_accumulate(
                on.pack([points], [weights], is_integral=False),
                centroids,
                (0, k + 2),
                labels=True,
                detail=True,
            )
            for on in (engine, REFERENCE)
        )

        assert torch.equal(ours.labels, theirs.labels), (n, k)
        assert_sums_agree(ours, theirs, REFERENCE.pack([points], [weights], is_integral=False))


@pytest.mark.parametrize("n", SIZES, ids="n{}".format)
@pytest.mark.parametrize("d", [1, 3, 4, 5], ids="d{}".format)
def test_labels_of_points_are_equal_at_every_edge_of_a_tile(engine, n, d):
    points, centroids, weights = problem_of("gaussian", n, d, torch.float32, 16)
    ours, theirs = (
        on.assign_accumulate(
            on.pack([points], [weights], is_integral=False), centroids, (0, 18), labels=True
        )
        for on in (engine, REFERENCE)
    )

    assert torch.equal(ours.labels, theirs.labels)
    assert_sums_agree(ours, theirs, REFERENCE.pack([points], [weights], is_integral=False))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 6], ids="d{}".format)
def test_a_label_is_the_first_of_the_nearest_centroids(backend, dtype, d):
    engine = backend_for(CPU, backend)
    points, centroids, weights = problem_of("ties", 300, d, dtype, 20)
    problem = engine.pack([points], [weights], is_integral=False)

    found = engine.assign_accumulate(problem, centroids, (0, 22), labels=True)

    square = np.zeros((300, 22), points.numpy().dtype)
    for j in range(d):
        square += (points.numpy()[:, j, None] - centroids.numpy()[:, j]) ** 2
    assert found.labels.tolist() == square.argmin(axis=1).tolist()
    expected = (square.min(axis=1).astype(np.float64) * weights.numpy()).sum()
    assert float(found.wcss[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("detail", [False, True], ids=["plain", "detail"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("n", SIZES, ids="n{}".format)
def test_colors_are_assigned_and_added_up_to_the_same_bits(engine, n, channels, detail):
    points, weights = color_problem(n, channels)
    for k in (1, 2, 64, 256):
        rows = torch.from_numpy(np.random.default_rng(k).integers(len(points), size=k))
        ours, theirs = (
            on.assign_accumulate(
                on.pack([points], [weights], is_integral=True),
                points[rows],
                (0, k),
                labels=True,
                detail=detail,
            )
            for on in (engine, REFERENCE)
        )

        assert_bits_agree(ours, theirs)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("most", [1, 2**14, 2**16, 2**29, 2**32], ids="most{}".format)
def test_colors_of_any_weight_are_added_up_to_the_same_bits(engine, most, channels):
    histogram = Histogram.from_pixels(torch.from_numpy(with_alpha(photo(5))), REFERENCE)
    points = srgb8_to_features(histogram.colors[:5000, :channels].contiguous(), "rgb")
    draws = np.random.default_rng(most).integers(1, min(most, 2**12), len(points), endpoint=True)
    draws[::999] = most  # not all of them: what they add up to must stay below 2^53
    weights = torch.from_numpy(draws.astype(np.float64))
    starts = points[:: len(points) // 40].clone()
    starts[:20, 0] -= 700  # off the grid, where halves of a split cluster may come to lie

    ours, theirs = (
        on.assign_accumulate(
            on.pack([points], [weights], is_integral=True), starts, (0, len(starts)), labels=True
        )
        for on in (engine, REFERENCE)
    )

    assert_bits_agree(ours, theirs)


@given(
    points=hnp.arrays(np.uint8, st.tuples(st.integers(1, 300), st.sampled_from([3, 4])))
    | hnp.arrays(np.uint8, (200, 3), elements=st.integers(0, 3)),
    centroids=st.integers(1, 20),
    seed=st.integers(0, 99),
)
@settings(max_examples=60)
def test_colors_with_many_ties_are_assigned_to_the_same_bits(points, centroids, seed):
    features = torch.from_numpy(points.astype(np.float32) * 8)
    moved = np.random.default_rng(seed).integers(0, 2041, (centroids, points.shape[1]))
    chosen = torch.from_numpy(moved // 8 * 8 if seed % 2 else moved).to(torch.float32)
    weights = torch.ones(len(points), dtype=torch.float64)
    for name in OTHERS:
        ours, theirs = (
            on.assign_accumulate(
                on.pack([features], [weights], is_integral=True),
                chosen,
                (0, centroids),
                labels=True,
                detail=True,
            )
            for on in (backend_for(CPU, name), REFERENCE)
        )

        assert_bits_agree(ours, theirs)


@pytest.mark.parametrize("active", [None, [0, 1, 2], [2], [0, 2], []], ids="active={}".format)
@pytest.mark.parametrize("is_integral", [False, True], ids=["points", "colors"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_packed_problem_gets_what_it_gets_alone(backend, is_integral, active):
    engine = backend_for(CPU, backend)
    alone = [color_problem(n, 3) for n in (65, 1, 700)]
    if not is_integral:
        alone = [(points / 7, weights) for points, weights in alone]
    starts = [alone[0][0][:5], alone[1][0][:1], alone[2][0][-9:]]
    packed = engine.pack([p for p, _ in alone], [w for _, w in alone], is_integral=is_integral)

    found = engine.assign_accumulate(
        packed, torch.cat(starts), (0, 5, 6, 15), active=active, labels=True, detail=True
    )

    assert packed.offsets == (0, 65, 66, 66 + len(alone[2][0]))
    for b, (points, weights) in enumerate(alone):
        rows, mine = packed.spans[b], slice((0, 5, 6)[b], (5, 6, 15)[b])
        if active is not None and b not in active:
            assert not found.masses[mine].any()
            assert not found.wcss[b]
            continue
        single = engine.assign_accumulate(
            engine.pack([points], [weights], is_integral=is_integral),
            starts[b],
            (0, len(starts[b])),
            labels=True,
            detail=True,
        )
        assert torch.equal(found.labels[rows], single.labels)
        assert torch.equal(found.wcss[b : b + 1], single.wcss)
        for name in ("sums", "masses", "squares", "utilities"):
            assert torch.equal(getattr(found, name)[mine], getattr(single, name)), name


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_was_not_asked_for_is_empty(backend):
    engine = backend_for(CPU, backend)
    points, weights = color_problem(100, 3)
    problem = engine.pack([points], [weights], is_integral=True)

    found = engine.assign_accumulate(problem, points[:4], (0, 4))

    assert [len(found.labels), len(found.squares), len(found.utilities)] == [0, 0, 0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("d", [3, 6], ids="d{}".format)
def test_squares_and_utilities_are_what_they_say(backend, d):
    engine = backend_for(CPU, backend)
    rng = np.random.default_rng(SEED)
    points, weights = torch.from_numpy(rng.normal(size=(200, d))), torch.from_numpy(rng.random(200))
    problem = engine.pack([points], [weights], is_integral=False)

    found = engine.assign_accumulate(problem, points[:8], (0, 8), labels=True, detail=True)

    labels = found.labels.long()
    squares = torch.zeros(8, d, dtype=torch.float64)
    squares.index_add_(0, labels, weights[:, None] * points**2)
    torch.testing.assert_close(found.squares, squares)
    for c in range(8):
        others = torch.cat([points[:c], points[c + 1 : 8]])
        without = engine.assign_accumulate(problem, others, (0, 7)).wcss
        torch.testing.assert_close(found.wcss + found.utilities[c], without)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("n", SIZES, ids="n{}".format)
def test_seeds_of_colors_are_the_same_rows(engine, n, channels):
    points, weights = color_problem(n, channels, levels=64)
    for k in (1, 2, 40):
        draws = torch.from_numpy(np.random.default_rng(k).random((k, 5)))
        ours, theirs = (
            on.seed(on.pack([points], [weights], is_integral=True), [k], [draws])[0]
            for on in (engine, REFERENCE)
        )

        assert torch.equal(ours, theirs)
        assert len(torch.unique(points[ours], dim=0)) == len(ours) == min(k, len(points))


def test_seeds_of_several_problems_are_those_of_each_alone(engine):
    alone = [color_problem(n, 3) for n in (65, 1, 700)]
    ks = [4, 2, 9]
    draws = [torch.from_numpy(np.random.default_rng(k).random((k, 3))) for k in ks]
    packed = engine.pack([p for p, _ in alone], [w for _, w in alone], is_integral=True)

    together = engine.seed(packed, ks, draws)

    for (points, weights), k, own, rows in zip(alone, ks, draws, together, strict=True):
        single = engine.pack([points], [weights], is_integral=True)
        assert torch.equal(engine.seed(single, [k], [own])[0], rows)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("d", [2, 5], ids="d{}".format)
def test_seeds_never_repeat_a_point_and_end_when_there_are_no_more(backend, d):
    engine = backend_for(CPU, backend)
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(6, d))).repeat(30, 1)
    problem = engine.pack([points], [torch.ones(180, dtype=torch.float64)], is_integral=False)
    draws = torch.from_numpy(np.random.default_rng(1).random((20, 4)))

    rows = engine.seed(problem, [20], [draws])[0]

    assert len(rows) == len(torch.unique(points[rows], dim=0)) == 6


@pytest.mark.parametrize("edge", [0.0, 1 - 2**-53], ids=["lowest", "highest"])
def test_a_draw_at_the_edge_of_the_range_chooses_a_point_with_weight(engine, edge):
    points, _ = color_problem(200, 3)
    weights = torch.ones(len(points), dtype=torch.float64) * 0.1
    draws = torch.full((12, 3), edge, dtype=torch.float64)

    ours, theirs = (
        on.seed(on.pack([points], [weights], is_integral=True), [12], [draws])[0]
        for on in (engine, REFERENCE)
    )

    assert torch.equal(ours, theirs)
    assert len(torch.unique(points[ours], dim=0)) == 12


@pytest.mark.parametrize("steps", [1, 2, 6])
@pytest.mark.parametrize("n", [1, 64, 65, 4000], ids="n{}".format)
def test_colors_settle_to_the_same_bits(engine, n, steps):
    points, weights = color_problem(n, 3)
    k = min(len(points), 12)
    for still in (0.0, 0.05):
        ours, theirs = (
            on.settle(
                on.pack([points], [weights], is_integral=True), points[:k], steps=steps, still=still
            )
            for on in (engine, REFERENCE)
        )

        assert torch.equal(ours[0], theirs[0])
        assert ours[1] == theirs[1]


@pytest.mark.parametrize("d", [2, 4, 5], ids="d{}".format)
def test_points_settle_alike_to_rounding(engine, d):
    points, centroids, weights = problem_of("gaussian", 700, d, torch.float64, 9)
    ours, theirs = (
        on.settle(on.pack([points], [weights], is_integral=False), centroids, steps=4, still=0.0)
        for on in (engine, REFERENCE)
    )

    torch.testing.assert_close(ours[0], theirs[0])
    assert ours[1] == pytest.approx(theirs[1])


@pytest.mark.parametrize("keeps", ["none", "some", "all"])
@pytest.mark.parametrize("shares", [(0.3, 0), (1.0, 0), (0.3, 2), (1.0, 2)])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 1), (13, 29), (150, 9)], ids=str)
def test_pictures_are_dithered_to_the_same_bits(engine, shape, channels, shares, keeps):
    strength, sweeps = shares
    histogram = Histogram.from_pixels(torch.from_numpy(noise(*shape, channels)), REFERENCE)
    inverse = histogram.inverse.reshape(shape)
    for space, k in (("rgb", 9), ("oklab", 30)):
        features = srgb8_to_features(histogram.colors, space)
        entries, own = entries_and_own(features, space, k)
        if keeps != "all":  # some: two colours may share a place in a space, and one be no entry
            own = torch.where((own % 2 == 0) & (keeps == "some"), own, -1)
        given = {"strength": strength, "own": own, "sweeps": sweeps}

        ours = engine.dither(features, inverse, entries, **given)

        assert torch.equal(ours, REFERENCE.dither(features, inverse, entries, **given))
        entry = given["own"][inverse.long()]
        assert torch.equal(ours[entry >= 0].long(), entry[entry >= 0])


@pytest.mark.parametrize("channels", [3, 4, "flat"])
@pytest.mark.parametrize("shape", [(16, 33), (17, 48), (64, 31), (70, 97), (210, 9)], ids=str)
def test_pictures_about_as_large_as_a_wave_are_dithered_to_the_same_bits(shape, channels):
    """Sixteen rows of two bands go at once on the CPU, and coordinates that are all 0 not."""
    histogram = Histogram.from_pixels(torch.from_numpy(noise(*shape, 4)), REFERENCE)
    features = srgb8_to_features(histogram.colors, "rgb")
    entries, own = entries_and_own(features, "rgb", 200)
    if channels == "flat":
        features = features * torch.tensor([1, 1, 1, 0])
    features, entries = (
        rows[:, : channels if channels == 3 else 4] for rows in (features, entries)
    )
    inverse, own = histogram.inverse.reshape(shape), torch.where(own % 3 == 0, own, -1)
    given = {"strength": 0.7, "own": own, "sweeps": 1}

    ours = backend_for(torch.device("cpu"), "cpu").dither(features, inverse, entries, **given)

    assert torch.equal(ours, REFERENCE.dither(features, inverse, entries, **given))


@pytest.mark.parametrize("room", [48 * 20, 48 * 40])
@pytest.mark.parametrize("k", [5, 16, 17, 200])
@pytest.mark.parametrize("channels", [3, 4])
def test_pictures_are_dithered_to_the_same_bits_where_there_is_no_room(
    channels, k, room, monkeypatch
):
    monkeypatch.setattr(pixel_work, "LISTED_CANDIDATES", room)
    histogram = Histogram.from_pixels(torch.from_numpy(noise(40, 20, channels)), REFERENCE)
    features = srgb8_to_features(histogram.colors, "rgb")
    entries, own = entries_and_own(features, "rgb", k)
    given = {"strength": 0.7, "own": torch.full_like(own, -1), "sweeps": 1}
    inverse = histogram.inverse.reshape(40, 20)

    ours = backend_for(torch.device("cpu"), "cpu").dither(features, inverse, entries, **given)

    assert torch.equal(ours, REFERENCE.dither(features, inverse, entries, **given))


def test_a_picture_of_many_bands_is_dithered_to_the_same_bits():
    pixels = np.tile(photo(4), (2, 1, 1))[:150, :40]

    ours = quantize(pixels, 30, space="oklab", dither=0.6, refine=0, backend=OTHERS[0])

    assert same(
        ours, quantize(pixels, 30, space="oklab", dither=0.6, refine=0, backend="reference")
    )


@pytest.mark.parametrize("channels", [3, 4])
def test_squared_errors_are_added_up_alike(engine, channels):
    histogram = Histogram.from_pixels(torch.from_numpy(noise(13, 29, channels)), REFERENCE)
    inverse, palette = histogram.inverse.reshape(13, 29), torch.from_numpy(noise(1, 7, channels)[0])
    given = (premultiplied(histogram.colors), inverse, premultiplied(palette))
    indices = (inverse % 7).to(torch.uint8)

    ours = engine.squared_error(*given, indices)

    missed = given[0].long()[inverse.long()] - given[2].long()[indices.long()]
    assert ours == int((missed**2).sum()) == REFERENCE.squared_error(*given, indices)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (3, 2), (23, 19)], ids=str)
def test_what_lies_about_each_entry_is_counted_alike(engine, shape, channels):
    histogram = Histogram.from_pixels(torch.from_numpy(noise(*shape, channels)), REFERENCE)
    features = srgb8_to_features(histogram.colors, "oklab")
    inverse = histogram.inverse.reshape(shape)
    indices = (inverse % 7).to(torch.uint8)

    ours = engine.blurred_moments(features, inverse, indices, 9)

    theirs = REFERENCE.blurred_moments(features, inverse, indices, 9)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    assert torch.equal(ours[0], ours[0].T)


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 6], ids="d{}".format)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fits_from_the_same_centroids_agree_to_rounding(backend, d, dtype):
    rng = np.random.default_rng(d)
    points = (rng.normal(size=(1500, d)) + 6 * rng.integers(0, 3, (1500, 1))).astype(dtype)
    weights = rng.uniform(0, 2, 1500)
    start = points[rng.choice(1500, 6, replace=False)]

    ours, theirs = (
        kmeans(points, 6, weights=weights, init=start, max_iter=2, tol=0.0, backend=name)
        for name in (backend, "reference")
    )

    rtol = 1e-5 if dtype == np.float32 else 1e-11
    np.testing.assert_allclose(ours.centroids, theirs.centroids, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(ours.wcss_history, theirs.wcss_history, rtol=rtol)
    assert ours.centroids.dtype == theirs.centroids.dtype == dtype


# Who serves


def test_the_backends_are_named_best_first():
    assert available_backends()[-1] == "reference"
    assert set(available_backends()) <= {"cuda", "cpu", "reference"}


@pytest.mark.parametrize("name", [*BACKENDS, "auto"])
def test_the_answer_says_who_computed_it(name):
    image = quantize(PICTURES["noise"], 4, backend=name)

    assert image.backend == (BACKENDS[0] if name == "auto" else name)
    assert image.device == "cpu"


@pytest.mark.parametrize("name", ["gpu", "", "CPU", "numba"])
def test_a_backend_that_does_not_exist_is_refused_by_name(name):
    with pytest.raises(OptionError, match=r"backend=.*reference"):
        backend_for(CPU, name)


@pytest.fixture
def without_numba(monkeypatch):
    """Let the library believe that numba is not installed."""
    monkeypatch.setattr(backends, "_has_numba", lambda: False)
    backends._fallback.cache_clear()
    yield
    backends._fallback.cache_clear()


@pytest.mark.usefixtures("without_numba")
def test_without_numba_the_reference_serves_and_says_so_once(caplog):
    with caplog.at_level(logging.WARNING):
        images = [quantize(PICTURES["noise"], 4) for _ in range(3)]

    assert [image.backend for image in images] == ["reference"] * 3
    assert available_backends() == ("reference",)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "numba" in caplog.text


@pytest.mark.usefixtures("without_numba")
def test_without_numba_the_cpu_backend_is_refused_and_the_reference_silent(caplog):
    with pytest.raises(DeviceError, match="numba"):
        quantize(PICTURES["noise"], 4, backend="cpu")
    quantize(PICTURES["noise"], 4, backend="reference")

    assert not caplog.records


def test_the_cpu_backend_refuses_tensors_on_another_device():
    with pytest.raises(DeviceError, match="meta"):
        backend_for(torch.device("meta"), "cpu")


def test_the_reference_gives_the_same_bits_on_every_device(device):
    pixels = torch.from_numpy(with_alpha(photo(12)))
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(500, 3)))
    weights = torch.arange(500) % 3
    start = points[[1, 2, 4]]

    image = quantize(pixels.to(device), 4, dither=0.5, curve=True, backend="reference")
    fit = kmeans(points.to(device), 3, weights=weights, init=start, backend="reference")

    on_cpu = quantize(pixels, 4, dither=0.5, curve=True, backend="reference")
    assert image.device.startswith(device.type)
    assert torch.equal(image.to_pixels().cpu(), on_cpu.to_pixels())
    assert (image.wcss, image.curve) == (on_cpu.wcss, on_cpu.curve)
    expected = kmeans(points, 3, weights=weights, init=start, backend="reference")
    torch.testing.assert_close(fit.centroids.cpu(), expected.centroids)
