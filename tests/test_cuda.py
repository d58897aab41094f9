"""The cuda backend gives the reference's answers: on a GPU, or in Triton's interpreter.

`make test-gpu` runs this file where there is a GPU. In the interpreter each program of a launch
runs by itself, many times slower, so shapes are small: a tile or a few of 128 points.
"""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from samples import (
    PICTURES,
    POINTS,
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

from gpu_kmeans import (
    DeviceError,
    backends,
    descent,
    elbow,
    kmeans,
    lloyd,
    quantization,
    quantize,
    quantize_batch,
    refinement,
)
from gpu_kmeans.backends import backend_for
from gpu_kmeans.backends.cuda import (
    backend,
    blocks,
    devices,
    dithering,
    histograms,
    layout,
    merging,
    passes,
    searching,
    tiling,
    trial,
    triton_pixels,
    walks,
)
from gpu_kmeans.backends.cuda import program as programs
from gpu_kmeans.backends.cuda.memory import Memory
from gpu_kmeans.backends.reference import morton_codes
from gpu_kmeans.color import srgb8_to_features
from gpu_kmeans.distances import EUCLIDEAN, OVER_RELAXED
from gpu_kmeans.histogram import FINEST_CELLS, Histogram, coarsen

CPU = torch.device("cpu")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
REFERENCE = backend_for(CPU, "reference")
SIZES = [1, 127, 128, 129, 300]  # around a tile


@pytest.fixture
def engine():
    return backend_for(DEVICE, "cuda")


def there(*tensors):
    """Bring tensors to the device under test."""
    return [tensor.to(DEVICE) for tensor in tensors]


def both(engine, points, weights, call, *, is_integral):
    """Do the same with the engine on its device and with the reference on the CPU."""
    problem = engine.pack(there(*points), there(*weights), is_integral=is_integral)
    ours = call(engine, problem, DEVICE)
    return ours, call(REFERENCE, REFERENCE.pack(points, weights, is_integral=is_integral), CPU)


def on_host(found):
    """Bring sums to the CPU."""
    return type(found)(**{name: getattr(found, name).cpu() for name in found.__slots__})


@pytest.fixture(params=["cpp", "triton"])
def passer(request, monkeypatch):
    """Pass and search by kernels of CUDA C++, and by Triton's as where they do not compile."""
    if request.param == "triton":
        monkeypatch.setattr(blocks, "available", lambda _: False)
        monkeypatch.setattr(backend, "available", lambda _: False)
    else:
        monkeypatch.setattr(walks, "passes", None)


# A pass over the points


@pytest.mark.usefixtures("passer")
@pytest.mark.parametrize("detail", [False, True], ids=["plain", "detail"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("n", SIZES, ids="n{}".format)
def test_colors_are_assigned_and_added_up_to_the_same_bits(engine, n, channels, detail):
    points, weights = color_problem(n, channels, levels=40)
    for k in (1, 2, 40):
        rows = torch.from_numpy(np.random.default_rng(k).integers(len(points), size=k))

        def call(on, problem, device, k=k, rows=rows):
            start = points[rows].to(device)
            return on.assign_accumulate(problem, start, (0, k), labels=True, detail=detail)

        ours, theirs = both(engine, [points], [weights], call, is_integral=True)

        assert_bits_agree(on_host(ours), theirs)


@pytest.mark.parametrize("k", [33, 300, 520], ids="k{}".format)
def test_many_centroids_with_many_ties_are_compared_to_the_same_bits(engine, k):
    rng = np.random.default_rng(k)
    points = torch.from_numpy(rng.integers(0, 6, (150, 3)) * 8).float()
    start = torch.from_numpy(rng.integers(0, 12, (k, 3)) * 4).float()
    weights = torch.from_numpy(rng.integers(1, 2**40, 150)).double()

    def call(on, problem, device):
        return on.assign_accumulate(problem, start.to(device), (0, k), labels=True, detail=True)

    ours, theirs = both(engine, [points], [weights], call, is_integral=True)

    assert torch.equal(ours.labels.cpu(), theirs.labels)
    assert torch.equal(ours.sums.cpu(), theirs.sums)
    assert torch.equal(ours.wcss.cpu(), theirs.wcss)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("d", [1, 3, 4, 5], ids="d{}".format)
@pytest.mark.parametrize("kind", POINTS)
def test_labels_of_points_are_equal_and_sums_equal_to_rounding(engine, kind, dtype, d):
    _compare(engine, problem_of(kind, 140, d, dtype, 9))


@pytest.mark.parametrize("kind", ["gaussian", "ties"])
def test_points_of_many_dimensions_are_labelled_and_added_up_alike(engine, kind):
    _compare(engine, problem_of(kind, 65, 128, torch.float32, 35))


def _compare(engine, case):
    points, centroids, weights = case
    k = len(centroids)

    def call(on, problem, device):
        start = centroids.to(device)
        return on.assign_accumulate(problem, start, (0, k), labels=True, detail=True)

    ours, theirs = both(engine, [points], [weights], call, is_integral=False)

    assert torch.equal(ours.labels.cpu(), theirs.labels)
    problem = REFERENCE.pack([points], [weights], is_integral=False)
    assert_sums_agree(on_host(ours), theirs, problem)


def test_a_long_table_is_added_up_in_chunks(engine):
    points, centroids, weights = problem_of("gaussian", 1500, 2, torch.float64, 10)

    def call(on, problem, device):
        return on.assign_accumulate(problem, centroids.to(device), (0, 12), detail=True)

    ours, theirs = both(engine, [points], [weights], call, is_integral=False)

    problem = REFERENCE.pack([points], [weights], is_integral=False)
    assert_sums_agree(on_host(ours), theirs, problem)


@pytest.mark.parametrize("active", [None, [2], [0, 2], []], ids="active={}".format)
@pytest.mark.parametrize("is_integral", [False, True], ids=["points", "colors"])
def test_a_packed_problem_gets_what_it_gets_alone(engine, is_integral, active):
    alone = [color_problem(n, 3) for n in (65, 1, 300)]
    if not is_integral:
        alone = [(points / 7, weights) for points, weights in alone]
    alone = [there(*pair) for pair in alone]
    starts = [alone[0][0][:5], alone[1][0][:1], alone[2][0][-9:]]
    packed = engine.pack([p for p, _ in alone], [w for _, w in alone], is_integral=is_integral)

    found = engine.assign_accumulate(
        packed, torch.cat(starts), (0, 5, 6, 15), active=active, labels=True, detail=True
    )

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


@pytest.mark.usefixtures("passer")
@pytest.mark.parametrize("n", [1, 129, 300], ids="n{}".format)
def test_colors_settle_to_the_same_bits(engine, n):
    points, weights = color_problem(n, 3)
    k = min(len(points), 12)
    for steps, still in ((1, 0.0), (2, 0.0), (6, 0.05)):

        def call(on, problem, device, steps=steps, still=still):
            return on.settle(problem, points[:k].to(device), steps=steps, still=still)

        ours, theirs = both(engine, [points], [weights], call, is_integral=True)

        assert torch.equal(ours[0].cpu(), theirs[0])
        assert ours[1] == theirs[1]


def test_what_is_kept_on_the_device_is_kept_for_each_stream(monkeypatch):
    first = [devices.known_int32((1, 2), DEVICE) for _ in range(2)]
    monkeypatch.setattr(devices, "stream_of", lambda _: -1)

    other = devices.known_int32((1, 2), DEVICE)

    assert first[0] is first[1]
    assert other is not first[0]
    assert other.tolist() == first[0].tolist() == [1, 2]


# Seeds


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("n", SIZES, ids="n{}".format)
def test_seeds_of_colors_are_the_same_rows(engine, n, channels):
    points, weights = color_problem(n, channels, levels=64)
    for k in (1, 2, 12):
        draws = torch.from_numpy(np.random.default_rng(k).random((k, 4)))

        def call(on, problem, _, k=k, draws=draws):
            return on.seed(problem, [k], [draws])[0]

        ours, theirs = both(engine, [points], [weights], call, is_integral=True)

        assert torch.equal(ours.cpu(), theirs)
        assert len(torch.unique(points[theirs], dim=0)) == min(k, len(points))


def test_seeds_of_several_problems_are_those_of_each_alone(engine):
    alone = [color_problem(n, 3) for n in (65, 1, 300)]
    ks = [4, 2, 9]
    draws = [torch.from_numpy(np.random.default_rng(k).random((k, 3))) for k in ks]
    points, weights = [p for p, _ in alone], [w for _, w in alone]
    packed = engine.pack(there(*points), there(*weights), is_integral=True)

    together = engine.seed(packed, ks, draws)

    for pair, k, own, rows in zip(alone, ks, draws, together, strict=True):
        single = REFERENCE.pack([pair[0]], [pair[1]], is_integral=True)
        assert torch.equal(REFERENCE.seed(single, [k], [own])[0], rows.cpu())


@pytest.mark.parametrize("d", [2, 5], ids="d{}".format)
def test_seeds_never_repeat_a_point_and_end_when_there_are_no_more(engine, d):
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(6, d))).repeat(30, 1)
    (here,) = there(points)
    weights = torch.ones(180, dtype=torch.float64, device=DEVICE)
    draws = torch.from_numpy(np.random.default_rng(1).random((9, 4)))

    rows = engine.seed(engine.pack([here], [weights], is_integral=False), [9], [draws])[0].cpu()

    assert len(rows) == len(torch.unique(points[rows], dim=0)) == 6


@pytest.mark.parametrize("edge", [0.0, 1 - 2**-53], ids=["lowest", "highest"])
def test_a_draw_at_the_edge_of_the_range_chooses_a_point_with_weight(engine, edge):
    points, _ = color_problem(200, 3)
    weights = torch.full((len(points),), 0.1, dtype=torch.float64)
    draws = torch.full((8, 3), edge, dtype=torch.float64)

    def call(on, problem, _):
        return on.seed(problem, [8], [draws])[0]

    ours, theirs = both(engine, [points], [weights], call, is_integral=True)

    assert torch.equal(ours.cpu(), theirs)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("edge", [None, 0.0, 1 - 2**-53], ids=["any", "lowest", "highest"])
def test_a_block_chooses_the_seeds_of_the_reference(engine, channels, edge):
    sets = [color_problem(n, channels, levels=levels) for n, levels in ((300, 99), (1, 9), (5, 2))]
    k, searches = 7, 2
    draws = torch.from_numpy(np.random.default_rng(3).random((searches, k, 4)))
    if edge is not None:
        draws[:] = edge
    points, weights = [p for p, _ in sets], [w for _, w in sets]
    packed = engine.pack(there(*points), there(*weights), is_integral=True)

    room = Memory(DEVICE, **searching.seed_parts(packed.layout, searches, k + 2))
    (drawn,) = there(draws)
    searching.seed(packed.layout, drawn.data_ptr(), tuple(draws.shape), k + 2, room)

    seeds, counts = room.tensor("starts"), room.tensor("counts")
    for i, (own, count) in enumerate(zip(seeds.cpu(), counts.tolist(), strict=True)):
        of_set = [some[i // searches] for some in (points, weights)]
        problem = REFERENCE.pack(*([one] for one in of_set), is_integral=True)
        rows = REFERENCE.seed(problem, [k], [draws[i % searches]])[0]
        assert count == len(rows)
        assert torch.equal(own[:count], of_set[0][rows])
        assert not own[count:k].any()


# Pixels


@pytest.fixture(params=["cpp", "triton"])
def counter(request, monkeypatch):
    """Count colours by kernels of CUDA C++, and as where they do not compile."""
    monkeypatch.setattr(backend, "available", lambda _: request.param == "cpp")


@pytest.mark.usefixtures("counter")
@pytest.mark.parametrize(("n", "levels"), [(40, 3), ((1 << 18) + 5, 40)], ids=["sorted", "counted"])
def test_histograms_agree_and_count_every_pixel(engine, n, levels):
    pixels = torch.from_numpy(noise(1, n, levels=levels)[0] * 5)

    colors, counts, inverse = (part.cpu() for part in engine.histogram(pixels.to(DEVICE)))

    for ours, theirs in zip((colors, counts, inverse), REFERENCE.histogram(pixels), strict=True):
        assert torch.equal(ours, theirs)
    assert (morton_codes(colors).diff() > 0).all()


@pytest.mark.usefixtures("counter")
def test_histograms_of_any_pictures_agree_counted_together(engine, monkeypatch):
    monkeypatch.setattr(histograms, "TOGETHER", 3)
    pictures = [noise(7, 9), noise(50, 41), noise(4, 4, 4), photo(6), noise(1, 1), noise(5, 5)]
    pictures += [np.full((1, 1, 3), level, np.uint8) for level in (0, 255)]
    pictures += [np.full((60, 70, 3), (255, 0, 254), np.uint8), noise(33, 64, levels=2)]
    pixels = [torch.from_numpy(picture).reshape(-1, picture.shape[2]) for picture in pictures]

    found = engine.histograms(there(*pixels))

    for ours, of_one in zip(found, pixels, strict=True):
        for part, theirs in zip(ours, REFERENCE.histogram(of_one), strict=True):
            assert torch.equal(part.cpu(), theirs)


@pytest.mark.parametrize("channels", [3, 4])
def test_colors_are_laid_out_alike_by_one_launch_and_by_many(monkeypatch, channels):
    alone = [color_problem(n, channels) for n in (128, 1, 300, 129, 2000)]
    points, weights = [p - 40 for p, _ in alone], [w for _, w in alone]
    packed = REFERENCE.pack(there(*points), there(*weights), is_integral=True)
    expected = layout.lay_out(packed)
    monkeypatch.setattr(layout, "lay_out", None)

    found = tiling.pack(there(*points), there(*weights), is_integral=True).layout

    assert found.first_tiles == expected.first_tiles
    for name in layout.PARTS:
        mine, theirs = getattr(found, name), getattr(expected, name)
        assert torch.equal(mine, theirs), name
        assert mine.dtype == theirs.dtype, name
    for own, one, mass in zip(found.moments(), points, weights, strict=True):
        about_zero = [mass.sum(), (mass * (one.double() ** 2).sum(1)).sum(), *(mass @ one.double())]
        assert own.tolist() == about_zero


@pytest.fixture(params=["cpp", "triton"])
def ditherer(request, monkeypatch):
    """Dither by kernels of CUDA C++, and by Triton's as where they do not compile."""
    if request.param == "triton":
        monkeypatch.setattr(dithering, "available", lambda _: False)
    else:
        monkeypatch.setattr(triton_pixels, "kernels", None)
    return request.param


@pytest.mark.usefixtures("ditherer")
@pytest.mark.parametrize(("strength", "sweeps"), [(1.0, 0), (0.6, 2)])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 1), (14, 11), (70, 2)], ids=str)
def test_pictures_are_dithered_to_the_same_bits(engine, shape, channels, strength, sweeps):
    _dither(engine, noise(*shape, channels), 5, strength, sweeps)


@pytest.mark.parametrize("k", [1, 2, 256], ids="k{}".format)
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("shape", [(63, 9), (64, 40), (65, 3), (129, 17)], ids=str)
def test_bands_are_dithered_to_the_same_bits_by_any_palette(engine, shape, channels, k):
    _dither(engine, noise(*shape, channels), k, 0.6, 1)


@pytest.mark.parametrize("is_far", [False, True], ids=["near", "far"])
@pytest.mark.parametrize("cells", [1, 4], ids=["cell", "cells"])
@pytest.mark.parametrize("channels", [3, 4])
def test_an_entry_that_is_as_near_at_one_corner_of_cells_is_listed(engine, channels, cells, is_far):
    """Of a cell, and of the 4 a side that are listed together. There the first is chosen."""
    width = cells * (32 if channels == 3 else 128)
    middle = width + width // 2
    edge = 2 * width - 1 if is_far else width  # the others lie beyond, where these cells are not
    first, second, others = 2 * edge - middle, middle, edge + (width if is_far else -width)
    entries, colors = (
        torch.tensor([[of, *(middle,) * (channels - 1)] for of in row], dtype=torch.float32)
        for row in ([others, first, second], [edge, others])
    )
    given = colors, torch.tensor([[0, 1]], dtype=torch.int32), entries
    own = torch.full((2,), -1)

    (ours, _) = engine.dither(*there(*given), strength=0.0, own=there(own)[0], sweeps=0)[0].tolist()

    assert ours == 1
    assert REFERENCE.dither(*given, strength=0.0, own=own, sweeps=0)[0, 0] == 1


@pytest.mark.parametrize("room", [1 << 22, 300], ids="room{}".format)
def test_cells_with_many_candidates_list_them_or_try_all(engine, monkeypatch, room):
    monkeypatch.setattr(dithering, "LISTED_CANDIDATES", room)
    near = noise(40, 30) // 16 + 100  # all within a few cells

    _dither(engine, near, 200, 0.8, 1)


def _dither(engine, pixels, k, strength, sweeps):
    shape = pixels.shape[:2]
    histogram = Histogram.from_pixels(torch.from_numpy(pixels), REFERENCE)
    inverse, features = histogram.inverse.reshape(shape), histogram.features("oklab")
    entries, own = entries_and_own(features, "oklab", k)
    given = (features, inverse, entries)

    ours = engine.dither(*there(*given), strength=strength, own=there(own)[0], sweeps=sweeps)

    expected = REFERENCE.dither(*given, strength=strength, own=own, sweeps=sweeps)
    assert torch.equal(ours.cpu(), expected)


@pytest.mark.usefixtures("ditherer")
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (3, 2), (23, 19)], ids=str)
def test_what_lies_about_each_entry_is_counted_alike(engine, shape, channels):
    _count_what_lies_about(engine, noise(*shape, channels), 7, 9)


@pytest.mark.parametrize("channels", [3, 4])
def test_what_lies_about_many_entries_is_counted_in_several_tiles(engine, monkeypatch, channels):
    monkeypatch.setattr(dithering, "MOMENT_BLOCKS", 2)

    _count_what_lies_about(engine, noise(40, 70, channels), 256, 256)


def _count_what_lies_about(engine, pixels, occurring, k):
    histogram = Histogram.from_pixels(torch.from_numpy(pixels), REFERENCE)
    features = srgb8_to_features(histogram.colors, "oklab")
    inverse = histogram.inverse.reshape(pixels.shape[:2])
    given = (features, inverse, (inverse % occurring).to(torch.uint8))

    ours = engine.blurred_moments(*there(*given), k)

    for one, other in zip(ours, REFERENCE.blurred_moments(*given, k), strict=True):
        assert torch.equal(one.cpu(), other)


# Whole fits


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("1x1", {"k": 4}),
        ("two-colors", {"k": 4}),
        ("grey-ramp", {"k": 7, "refine": 0, "max_iter": 4}),
        ("dark-neighbors", {"k": 3, "refine": 0, "space": "linear", "dither": 0.7}),
        ("noise-alpha", {"k": 4, "refine": 0, "max_iter": 3, "space": "oklab"}),
        (
            "few-levels",
            {"k": 5, "refine": 0, "max_iter": 3, "dither": 0.6, "dither_method": "blue-noise"},
        ),
        ("column", {"k": 6, "refine": 0, "n_init": 2, "init": "random"}),
    ],
    ids=str,
)
def test_a_picture_is_quantized_to_the_same_bits(name, options):
    pixels = torch.from_numpy(PICTURES[name])

    ours = quantize(pixels.to(DEVICE), **options, backend="cuda")

    assert ours.backend == "cuda"
    theirs = quantize(pixels, **options, backend="reference")
    assert same(on_cpu(ours), on_cpu(theirs))


@pytest.mark.parametrize("d", [2, 6], ids="d{}".format)
def test_a_fit_of_points_agrees_to_rounding_and_repeats_to_the_bit(d):
    rng = np.random.default_rng(d)
    points = torch.from_numpy(rng.normal(size=(200, d)) + 6 * rng.integers(0, 3, (200, 1)))
    weights = torch.from_numpy(rng.uniform(0.1, 2, 200))
    options = {"max_iter": 3, "tol": 0.0}
    here, masses = there(points, weights)

    ours, again = (
        kmeans(here, 3, weights=masses, init=here[:3], backend="cuda", **options) for _ in range(2)
    )

    theirs = kmeans(points, 3, weights=weights, init=points[:3], backend="reference", **options)
    torch.testing.assert_close(ours.centroids.cpu(), theirs.centroids, rtol=1e-11, atol=1e-11)
    assert torch.equal(ours.centroids, again.centroids)
    assert ours.wcss_history == again.wcss_history


# Loops that the host runs ahead of


def on_cpu(image):
    """Bring a quantized picture to the CPU, whoever computed it."""
    parts = ("indices", "palette", "counts", "centroids")
    return replace(image, **{name: getattr(image, name).numpy(force=True) for name in parts})


@pytest.fixture(params=["cpp", "torch"])
def merger(request, monkeypatch):
    """Merge by kernels of CUDA C++, and by PyTorch as where they do not compile."""
    if request.param == "torch":
        monkeypatch.setattr(merging, "available", lambda _: False)
    else:
        monkeypatch.setattr(merging, "merge_large", None)


@pytest.mark.usefixtures("merger")
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("target", [300, 4096], ids="target{}".format)
def test_colors_are_merged_to_the_same_bits(engine, target, channels):
    dark = np.random.default_rng(0).integers(0, 64, (70, 90, channels)).astype(np.uint8)
    dark[0, 0] = 255  # only children of only children
    pictures = [photo(4), dark, noise(3, 5), noise(230, 250)]  # the last has too many cells
    if channels == 4:
        pictures = [with_alpha(photo(4)), dark, noise(230, 250, 4)]
    found = [Histogram.from_pixels(torch.from_numpy(p), REFERENCE) for p in pictures]
    colors = [histogram.colors for histogram in found]
    features = [srgb8_to_features(of_one, "oklab") for of_one in colors]
    weights = [histogram.counts.double() for histogram in found]

    ours = engine.merge(there(*colors), there(*features), there(*weights), target)

    for one, *picture in zip(ours, colors, features, weights, strict=True):
        for mine, theirs in zip(one, coarsen(*picture, target), strict=True):
            assert torch.equal(mine.cpu(), theirs)


@pytest.mark.usefixtures("merger")
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("target", [1, 20, 700], ids="target{}".format)
def test_colors_that_count_much_are_merged_to_the_same_bits(engine, target, channels):
    """Squares of sums need rounding, so that the order in which they are added shows."""
    rng = np.random.default_rng(channels)
    found = Histogram.from_pixels(
        torch.from_numpy(rng.integers(0, 256, (40, 25, channels)).astype(np.uint8)), REFERENCE
    )
    features = srgb8_to_features(found.colors, "oklab")
    weights = torch.from_numpy(rng.integers(1, 2**31, len(found.colors))).double()

    ((points, masses),) = engine.merge(there(found.colors), there(features), there(weights), target)

    expected = coarsen(found.colors, features, weights, target)
    assert torch.equal(points.cpu(), expected[0])
    assert torch.equal(masses.cpu(), expected[1])


@pytest.mark.usefixtures("merger")
@pytest.mark.parametrize("kind", ["pair", "siblings", "grid", "one cell of each", "far apart"])
def test_colors_of_any_arrangement_are_merged_to_the_same_bits(engine, kind):
    levels = {
        "pair": np.array([[0, 0, 0], [255, 255, 255]]),
        "siblings": np.argwhere(np.ones((2, 2, 2))) + 4,
        "grid": np.argwhere(np.ones((9, 9, 9))) * 3,  # many parents as scattered as each other
        "one cell of each": np.argwhere(np.ones((5, 5, 5))) * 32,
        "far apart": np.array([[0, 0, 0], [0, 0, 1], [255, 255, 254], [255, 255, 255]]),
    }[kind]
    colors = Histogram.from_pixels(
        torch.from_numpy(levels[:, None].astype(np.uint8)), REFERENCE
    ).colors
    weights = torch.from_numpy(np.random.default_rng(0).integers(1, 9, len(colors))).double()
    for target in (1, 2, 3, 7, 100, len(colors) - 1, len(colors)):
        for features in (srgb8_to_features(colors, "rgb"), srgb8_to_features(colors, "oklab")):
            ((points, masses),) = engine.merge(
                there(colors), there(features), there(weights), target
            )

            expected = coarsen(colors, features, weights, target)
            assert torch.equal(points.cpu(), expected[0])
            assert torch.equal(masses.cpu(), expected[1])


@pytest.mark.usefixtures("merger")
@pytest.mark.parametrize("count", [FINEST_CELLS, FINEST_CELLS + 1], ids=str)
def test_as_many_cells_as_the_tree_takes_are_leaves(engine, count):
    levels = np.argwhere(np.ones((36, 36, 36)))[:count]
    colors = Histogram.from_pixels(
        torch.from_numpy(levels[:, None].astype(np.uint8)), REFERENCE
    ).colors

    weights = torch.from_numpy(np.random.default_rng(0).integers(1, 9, count)).double()

    _merge_alike(engine, colors, weights, 9000)


@pytest.mark.usefixtures("merger")
def test_parents_of_sixteen_children_as_scattered_as_each_other_are_merged_alike(engine):
    """How scattered they are differs by rounding alone, which goes by the order of additions."""
    grid = np.argwhere(np.ones((16,) * 4))
    colors = Histogram.from_pixels(
        torch.from_numpy(grid[:, None].astype(np.uint8)), REFERENCE
    ).colors
    of_places = torch.from_numpy(np.random.default_rng(1).integers(1, 99, (4,) * 4)).double()
    weights = of_places[(colors.long() % 4).unbind(dim=1)]

    for target in (400, 1500, 3000):
        _merge_alike(engine, colors, weights, target)


def _merge_alike(engine, colors, weights, target):
    features = 8 * colors.float()

    ((points, masses),) = engine.merge(there(colors), there(features), there(weights), target)

    expected = coarsen(colors, features, weights, target)
    assert torch.equal(points.cpu(), expected[0])
    assert torch.equal(masses.cpu(), expected[1])


def test_the_kernels_merge_as_many_cells_as_the_reference():
    source = (programs.SOURCES / "merging.cu").read_text()

    assert f"#define MOST_LEAVES {FINEST_CELLS} " in source


@pytest.mark.usefixtures("passer")
@pytest.mark.parametrize("k", [3], ids="k{}".format)
def test_a_search_finds_the_same_centroids(monkeypatch, k):
    monkeypatch.setattr(refinement, "SHORT_BREATHS", 2)
    pixels = torch.from_numpy(noise(9, 14))

    ours = quantize(pixels.to(DEVICE), k, backend="cuda")

    assert same(on_cpu(ours), on_cpu(quantize(pixels, k, backend="reference")))


def test_of_clusters_that_gain_the_same_the_first_is_split(engine):
    greys = torch.tensor([0, 1, 40, 41, 80, 81, 120, 121]).float()[:, None]  # each pair likewise
    points, weights = 8 * greys.expand(8, 3).contiguous(), torch.ones(8, dtype=torch.float64)
    problem = REFERENCE.pack([points], [weights], is_integral=True)
    own = engine.pack(there(points), there(weights), is_integral=True)
    plan = refinement.growth_plan(7, 0.2, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    expected = points.mean(dim=0, keepdim=True)

    for found in searching.grow(own.layout, there(expected)[0], 7, plan):
        expected = refinement.grow(REFERENCE, problem, expected, share=0.2, rng=rng)
        assert torch.equal(found.cpu(), expected)


@pytest.mark.usefixtures("passer")
def test_a_search_over_many_clusters_finds_the_same_centroids(engine, monkeypatch):
    monkeypatch.setattr(refinement, "FEWEST_BREATHS", 1)
    monkeypatch.setattr(refinement, "MOST_BREATHS", 1)
    points, weights = color_problem(100, 4)
    fit = lloyd.Fit(k=26, n_init=1, max_iter=1, tol=0.0, refine=1, seed=5)

    (ours,) = fit.search_together(
        engine, [tuple(there(points, weights))], "k-means++", lambda _: None
    )

    problem = REFERENCE.pack([points], [weights], is_integral=True)
    assert torch.equal(ours.cpu(), fit.search(REFERENCE, problem, "k-means++", lambda _: None))


@pytest.mark.parametrize("few", [0, 16], ids=["block", "cluster"])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_whole_search_in_a_photograph_finds_the_same_centroids(
    engine, monkeypatch, channels, few
):
    monkeypatch.setattr(searching, "FEW_SEARCHES", few)
    pixels = photo(9) if channels == 3 else with_alpha(photo(9))
    histogram = Histogram.from_pixels(torch.from_numpy(pixels), REFERENCE)
    points, weights = histogram.merged(REFERENCE, "rgb", 2048)
    fit = lloyd.Fit(k=40, n_init=2, max_iter=1, tol=0.0, refine=1, seed=5)
    sets = [(points, weights), (points[100:], weights[100:])]

    found = fit.search_together(
        engine, [tuple(there(*one)) for one in sets], "k-means++", lambda _: None
    )

    for own, one in zip(found, sets, strict=True):
        problem = REFERENCE.pack(*([part] for part in one), is_integral=True)
        assert torch.equal(own.cpu(), fit.search(REFERENCE, problem, "k-means++", lambda _: None))


@pytest.mark.parametrize("channels", [3, 4])
def test_weights_too_large_for_words_are_added_up_all_the_same(engine, channels):
    points, _ = color_problem(300, channels)
    weights = torch.full((len(points),), float(2**23 + 1), dtype=torch.float64)

    def call(on, problem, device):
        centroids = points[:3].to(device)
        return on_host(on.assign_accumulate(problem, centroids, (0, 3), labels=True))

    assert_bits_agree(*both(engine, [points], [weights], call, is_integral=True))


def test_a_batch_of_any_pictures_is_quantized_as_each_alone(monkeypatch):
    monkeypatch.setattr(refinement, "SHORT_BREATHS", 1)
    monkeypatch.setattr(refinement, "SHORT_SEARCHES", 1)
    pictures = [noise(5, 6), noise(3, 7, channels=4), noise(4, 3), np.zeros((2, 2, 3), np.uint8)]
    batch = [torch.from_numpy(pixels) for pixels in pictures]

    together = quantize_batch(there(*batch), 4, backend="cuda")

    alone = [quantize(pixels, 4, backend="reference") for pixels in batch]
    assert all(same(on_cpu(one), on_cpu(other)) for one, other in zip(together, alone, strict=True))


def test_a_batch_is_parted_where_there_is_no_room_for_all(monkeypatch):
    monkeypatch.setattr(quantization, "GROUP_PIXELS", 50)
    heights, fit = [], quantization._quantize

    def fit_and_tell(engine, group, options, report):
        heights.append([len(pixels) for pixels in group])
        return fit(engine, group, options, report)

    monkeypatch.setattr(quantization, "_quantize", fit_and_tell)
    sizes = [(4, 5), (5, 6), (1, 1), (9, 9)]
    batch = [torch.zeros(*size, 3, dtype=torch.uint8, device=DEVICE) for size in sizes]

    images = quantize_batch(batch, 2, backend="cuda")

    assert heights == [[4, 5], [1], [9]]
    assert [tuple(image.indices.shape) for image in images] == sizes


@pytest.mark.usefixtures("passer")
@pytest.mark.parametrize("metric", [EUCLIDEAN, OVER_RELAXED], ids=["means", "beyond"])
def test_a_descent_goes_the_same_way_past_an_empty_cluster(engine, metric):
    points, weights = color_problem(140, 3)
    starts = [torch.cat([points[:3], points[:1]]), points[5:7]]
    for max_iter in (1, 6):

        def call(on, problems, device, max_iter=max_iter):
            first = [start.to(device) for start in starts]
            return descent.descend(
                on, problems, first, max_iter=max_iter, tol=0.0, still=0.01, metric=metric
            )

        ours, theirs = both(
            engine, [points, points[:60]], [weights, weights[:60]], call, is_integral=True
        )

        for one, other in zip(ours, theirs, strict=True):
            assert one.wcss_history == other.wcss_history
            assert (one.n_iter, one.converged) == (other.n_iter, other.converged)
            assert torch.equal(one.centroids.cpu(), other.centroids)
            assert torch.equal(one.labels.cpu(), other.labels)


@pytest.mark.usefixtures("passer")
@pytest.mark.parametrize("channels", [3, 4])
def test_a_pictures_curve_has_the_same_bits(channels):
    pixels = torch.from_numpy(noise(7, 10, channels))

    assert elbow(pixels.to(DEVICE), 5, backend="cuda") == elbow(pixels, 5, backend="reference")


# Who serves


def test_on_the_cpu_the_cuda_backend_serves_only_in_the_interpreter(monkeypatch):
    triton = pytest.importorskip("triton")
    backends._why_not_cuda.cache_clear()
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)

    with pytest.raises(DeviceError, match="tensors on CUDA"):
        backend_for(CPU, "cuda")

    assert backend_for(CPU).name != "cuda"
    backends._why_not_cuda.cache_clear()


@pytest.fixture
def without_cuda(monkeypatch):
    """Let the kernels fail."""
    monkeypatch.setattr(backends, "_why_not_cuda", lambda _: "RuntimeError: no compiler")
    backends._fallback.cache_clear()
    yield
    backends._fallback.cache_clear()


@pytest.mark.usefixtures("without_cuda")
def test_where_the_kernels_fail_the_reference_serves_and_says_so_once(caplog):
    with caplog.at_level(logging.WARNING):
        served = [backend_for(torch.device("cuda")).name for _ in range(3)]

    assert served == ["reference"] * 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no compiler" in caplog.text


@pytest.mark.usefixtures("without_cuda")
def test_asked_for_by_name_the_cuda_backend_refuses_with_its_reason():
    with pytest.raises(DeviceError, match="no compiler"):
        backend_for(torch.device("cuda"), "cuda")


def test_the_trial_says_what_failed(monkeypatch):
    def broken(_):
        raise OSError("gcc: not found\nmore")

    assert trial.why_not(DEVICE) is None
    monkeypatch.setattr(trial, "_is_right", lambda _: False)
    assert "wrong" in trial.why_not(DEVICE)
    monkeypatch.setattr(trial, "_is_right", broken)
    assert trial.why_not(DEVICE) == "OSError: gcc: not found"


def test_the_trial_needs_triton_too(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(type(passes.nearest_in_boxes), "__getitem__", broken)

    assert trial.why_not(DEVICE) == "RuntimeError: Failed to find C compiler"


def test_where_one_file_of_cuda_cpp_does_not_compile_none_is_used(monkeypatch):
    whole = programs.program

    def all_but_one(name, device):
        if name == "histograms":
            raise RuntimeError("line 3: error")
        return whole(name, device)

    monkeypatch.setattr(programs, "program", all_but_one)
    programs._is_available.cache_clear()

    assert not programs.available(DEVICE)
    programs._is_available.cache_clear()


def test_kernels_of_cuda_cpp_run_here():
    assert programs.available(DEVICE)


@pytest.mark.parametrize("room", [64, 84], ids=["too-little", "for-pairs-alone"])
def test_where_a_block_has_no_room_for_all_pairs_of_entries_triton_counts_them(
    engine, monkeypatch, room
):
    monkeypatch.setattr(dithering, "shared_bytes", lambda _: room)
    monkeypatch.setattr(dithering, "blurred_moments", None)
    colors, inverse, indices = torch.eye(3), torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.uint8)

    found = engine.blurred_moments(*there(colors, inverse.int(), indices), 6)

    expected = REFERENCE.blurred_moments(colors, inverse.int(), indices, 6)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.cpu(), theirs)


@pytest.mark.parametrize("error", [OSError("no compiler"), RuntimeError("no\ndriver")], ids=repr)
def test_where_no_kernel_of_cuda_cpp_compiles_the_log_says_so_once(monkeypatch, caplog, error):
    def broken(*_):
        raise error

    monkeypatch.setattr(programs, "program", broken)
    programs._is_available.cache_clear()

    with caplog.at_level(logging.WARNING):
        answers = [programs.available(DEVICE) for _ in range(3)]
    programs._is_available.cache_clear()

    assert answers == [False] * 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(error) in caplog.text
