"""Kernels of CUDA C++ give the reference's answers with all their threads, and no two race.

`all_threads.py` runs them on the CPU, in an order that is asked for, and watches every access to
memory. A few shapes do: what matters are the barriers between threads.
"""

import re

import numpy as np
import pytest
import torch
from all_threads import (
    BACKWARD,
    FORWARD,
    AllThreads,
    BrokenKernelError,
    arrays,
    compiled,
    run,
    source_of,
)
from samples import assert_bits_agree, color_problem, entries_and_own, noise

from gpu_kmeans import descent, elbow, lloyd, refinement
from gpu_kmeans.backends import backend_for
from gpu_kmeans.backends.cuda import dithering, layout, memory, searching, triton_pixels, walks
from gpu_kmeans.backends.cuda import program as programs
from gpu_kmeans.distances import EUCLIDEAN, OVER_RELAXED
from gpu_kmeans.histogram import Histogram, coarsen

CPU = torch.device("cpu")
REFERENCE = backend_for(CPU, "reference")
ORDERS = {"forward": FORWARD, "backward": BACKWARD, "shuffled": 20_240_229}
FILES = sorted(path.stem for path in programs.SOURCES.glob("*.cu"))
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels run on the GPU here")


@pytest.fixture(scope="module", autouse=True)
def _every_kernel_is_run(request):
    """Look, after all tests of this file, whether they have left one out."""
    yield
    options = request.config.option
    if (
        options.keyword
        or request.session.testsfailed
        or any("::" in a for a in options.file_or_dir)
    ):
        return
    kernels = {("trial", "name_threads")}
    for name in FILES:
        _, library = compiled(source_of(name))
        named = re.findall(r" T ([a-z]\w+)$", run("nm", "-D", library), re.MULTILINE)
        kernels |= {(name, kernel) for kernel in named if kernel != "run"}
    assert kernels - AllThreads.ran == {("trial", "name_threads")}


@pytest.fixture(params=ORDERS.values(), ids=ORDERS.keys(), scope="module")
def order(request):
    return request.param


@pytest.fixture
def engine(order, monkeypatch):
    """The cuda backend; memory that is taken holds what is no number, as far as may be."""
    found = backend_for(CPU, "cuda")
    monkeypatch.setattr(
        programs, "_program", lambda name, _: AllThreads(source_of(name), order, name)
    )
    monkeypatch.setattr(searching, "_cluster_size", lambda _: searching.CLUSTER)
    monkeypatch.setattr(memory, "_cleared", {})
    arrays.watch(monkeypatch)
    monkeypatch.setattr(walks, "passes", None)  # Triton's
    monkeypatch.setattr(triton_pixels, "kernels", None)
    torch.use_deterministic_algorithms(mode=True)
    yield found
    torch.use_deterministic_algorithms(mode=False)
    assert not any(lent.any() for lent in memory._cleared.values())


def both(engine, points, weights, call):
    """Do the same with the engine and with the reference."""
    return [call(on, on.pack(points, weights, is_integral=True)) for on in (engine, REFERENCE)]


def made_heavy(weights):
    """Let weights add up to nearly as much as fits into words."""
    return weights * ((2**31 - 1) // weights.sum())


@pytest.mark.parametrize(
    ("detail", "is_heavy"),
    [(False, False), (True, False), (True, True)],
    ids=["plain", "detail", "heavy"],
)
@pytest.mark.parametrize("channels", [3, 4])
def test_blocks_add_up_what_their_warps_find(engine, channels, detail, is_heavy):
    sets = [color_problem(n, channels) for n in (2300, 40, 1)]
    if is_heavy:
        sets = [(points, made_heavy(weights)) for points, weights in sets]
    sets.insert(1, (sets[0][0][:0], sets[0][1][:0]))
    points, weights = zip(*sets, strict=True)
    start = torch.cat([points[0][:47:9], points[2][:33], points[3][:1]])
    for active in (None, [0, 3]):

        def call(on, problem, active=active):
            offsets = (0, 5, 6, 39, 40)
            given = {"active": active, "labels": active is None, "detail": detail}
            return on.assign_accumulate(problem, start, offsets, **given)

        assert_bits_agree(*both(engine, points, weights, call))


@pytest.mark.parametrize("metric", [EUCLIDEAN, OVER_RELAXED], ids=["means", "beyond"])
@pytest.mark.parametrize("channels", [3, 4])
def test_the_last_block_takes_the_step(engine, channels, metric):
    sets = [color_problem(n, channels) for n in (2300, 300)]
    points, weights = zip(*sets, strict=True)
    starts = [torch.cat([points[0][:3], points[0][:1]]), points[1][5:7]]

    def call(on, problems):
        given = {"max_iter": 4, "tol": 0.0, "still": 0.01, "metric": metric}
        return descent.descend(on, problems, starts, **given)

    for one, other in zip(*both(engine, points, weights, call), strict=True):
        assert one.wcss_history == other.wcss_history
        assert torch.equal(one.centroids, other.centroids)
        assert torch.equal(one.labels, other.labels)


def test_the_last_block_settles(engine):
    points, weights = color_problem(2300, 3)

    def call(on, problem):
        return on.settle(problem, points[:7], steps=3, still=0.0)

    (ours, cost), (theirs, expected) = both(engine, [points], [weights], call)

    assert torch.equal(ours, theirs)
    assert cost == expected


@pytest.mark.parametrize(
    ("few", "is_heavy"),
    [(0, False), (0, True), (16, False)],
    ids=["block", "heavy", "cluster"],
)
@pytest.mark.parametrize("channels", [3, 4])
def test_searches_find_the_same_centroids(engine, monkeypatch, channels, few, is_heavy):
    monkeypatch.setattr(searching, "FEW_SEARCHES", few)
    monkeypatch.setattr(refinement, "SHORT_BREATHS", 2)
    monkeypatch.setattr(refinement, "SHORT_SEARCHES", 1)
    sets = [color_problem(n, channels) for n in (300, 90)]
    if is_heavy:
        sets = [(points, made_heavy(weights)) for points, weights in sets]
    fit = lloyd.Fit(k=9, n_init=1, max_iter=1, tol=0.0, refine=1, seed=5)

    found = fit.search_together(engine, sets, "k-means++", lambda _: None)

    for own, one in zip(found, sets, strict=True):
        problem = REFERENCE.pack(*([part] for part in one), is_integral=True)
        assert torch.equal(own, fit.search(REFERENCE, problem, "k-means++", lambda _: None))


def test_a_search_that_grows_finds_the_same_curve(engine):
    pixels = torch.from_numpy(noise(7, 30))

    assert elbow(pixels, 3, backend=engine.name) == elbow(pixels, 3, backend="reference")


@pytest.mark.parametrize("edge", [None, 1 - 2**-53, 1.0], ids=["any", "highest", "beyond"])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_block_draws_the_same_seeds(engine, channels, edge):
    points, weights = color_problem(1200, channels)
    draws = torch.from_numpy(np.random.default_rng(3).random((2, 5, 6)))
    if edge is not None:
        draws[:] = edge
    packed = engine.pack([points, points[:3]], [weights, weights[:3]], is_integral=True)

    room = memory.Memory(CPU, **searching.seed_parts(packed.layout, 2, 6))
    searching.seed(packed.layout, draws.data_ptr(), tuple(draws.shape), 6, room)

    seeds, counts = room.tensor("starts"), room.tensor("counts").tolist()
    for i, (n, own) in enumerate(zip((1200, 1200, 3, 3), counts, strict=True)):
        problem = REFERENCE.pack([points[:n]], [weights[:n]], is_integral=True)
        rows = REFERENCE.seed(problem, [5], [draws[i % 2]])[0]
        assert own == len(rows)
        assert torch.equal(seeds[i, :own], points[rows])


@pytest.mark.parametrize("channels", [3, 4])
def test_colors_are_laid_out_by_many_blocks(engine, channels):
    sets = [color_problem(n, channels) for n in (128, 1, 1300)]
    sets[1:1] = [(points[:0], weights[:0]) for points, weights in sets[:2]]
    points, weights = zip(*sets, strict=True)

    tiles = engine.pack(points, weights, is_integral=True).layout

    rows, masses = torch.cat(points), torch.cat(weights)
    assert torch.equal(tiles.points.T, rows[tiles.rows])
    assert torch.equal(tiles.masses.double(), tiles.weights)
    corners = tiles.points.reshape(channels, -1, 128)
    assert torch.equal(tiles.boxes, torch.stack([corners.amin(2), corners.amax(2)]))
    for own, one, mass in zip(tiles.moments(), points, weights, strict=True):
        squares = (mass * (one.double() ** 2).sum(1)).sum()
        assert own.tolist() == [mass.sum(), squares, *(mass @ one.double())]
    assert masses.sum() == tiles.weights.sum()


def test_histograms_are_counted_by_many_blocks(engine):
    pixels = [torch.from_numpy(p).reshape(-1, 3) for p in (noise(60, 70), noise(9, 9, levels=2))]

    found = engine.histograms(pixels)

    for ours, of_one in zip(found, pixels, strict=True):
        for part, theirs in zip(ours, REFERENCE.histogram(of_one), strict=True):
            assert torch.equal(part, theirs)


@pytest.mark.parametrize("target", [20, 700], ids="target{}".format)
@pytest.mark.parametrize("channels", [3, 4])
def test_colors_are_merged_by_one_block_to_a_picture(engine, channels, target):
    pictures = [noise(50, 60, channels), noise(5, 5, channels), noise(30, 30, channels, levels=9)]
    found = [Histogram.from_pixels(torch.from_numpy(p), REFERENCE) for p in pictures]
    weights = [h.counts.double() for h in found]
    given = [h.colors for h in found], [h.features("oklab") for h in found], weights

    ours = engine.merge(*given, target)

    for one, *picture in zip(ours, *given, strict=True):
        for mine, theirs in zip(one, coarsen(*picture, target), strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize(("k", "room"), [(3, 1 << 22), (200, 1 << 22), (200, 300)], ids=str)
@pytest.mark.parametrize("channels", [3, 4])
def test_bands_are_dithered_by_all_threads(engine, monkeypatch, channels, k, room):
    monkeypatch.setattr(dithering, "LISTED_CANDIDATES", room)
    monkeypatch.setattr(dithering, "PREPARING_BLOCKS", 3)
    pixels = noise(67, 11, channels) // 16 + 100  # all within a few cells
    histogram = Histogram.from_pixels(torch.from_numpy(pixels), REFERENCE)
    features = histogram.features("oklab")
    entries, own = entries_and_own(features, "oklab", k)
    given = features, histogram.inverse.reshape(pixels.shape[:2]), entries

    ours = engine.dither(*given, strength=0.8, own=own, sweeps=1)

    assert torch.equal(ours, REFERENCE.dither(*given, strength=0.8, own=own, sweeps=1))


@pytest.mark.parametrize("channels", [3, 4])
def test_what_lies_about_entries_is_counted_by_all_threads(engine, monkeypatch, channels):
    monkeypatch.setattr(dithering, "MOMENT_BLOCKS", 2)
    pixels = noise(33, 70, channels)
    histogram = Histogram.from_pixels(torch.from_numpy(pixels), REFERENCE)
    inverse = histogram.inverse.reshape(pixels.shape[:2])
    given = histogram.features("oklab"), inverse, (inverse % 50).to(torch.uint8)

    ours = engine.blurred_moments(*given, 50)

    for one, other in zip(ours, REFERENCE.blurred_moments(*given, 50), strict=True):
        assert torch.equal(one, other)


# What is found


SHARED = "SHARED uint32 own[64]; own[thread_index()] = thread_index();"
BROKEN = (
    (f"{SHARED} all[0] = own[63 - thread_index()];", "nobody has written is read"),
    (f"{SHARED} sync_threads(); own[thread_index() ^ 1] = own[thread_index()];", "a race"),
    (
        f"{SHARED} sync_warp(); all[thread_index()] = own[thread_index() ^ 32];",
        "nobody has written",
    ),
    (f"{SHARED} warp_ballot(true); all[thread_index()] = own[thread_index() ^ 1];", "a race"),
    ("all[0] = 1;", "a race: block 0, thread 1 writes"),
    ("if (thread_index() == 0) all[0] = 1;", "a race: block 1, thread 0 writes"),
    ("if (thread_index() == 0) all[0] = 1; else add_to(all, 1u);", "a race"),
    ("if (thread_index() == 0) all[0] = 1; add_to(all, 1u);", "a race"),
    ("if (lane_index() < 5) warp_ballot(true);", "part: warp_ballot"),
    ("lane_index() < 5 ? warp_min(1u) : warp_max(1u);", "part: warp_min"),
    ("if (warp_index()) sync_threads();", "part: its end"),
    ("if (warp_index()) return; sync_threads();", "its end"),
    ("warp_index() ? sync_threads() : sync_warp(); sync_threads();", "sync_threads"),
    ("warp_get(1u, lane_index() + 1);", "from lane 32"),
    ("arena[8 + thread_index()] = 0;", "beyond the arena"),
    ("all[thread_index()] = 0; take_ticket(all);", "a ticket does not cover"),
    ("if (thread_index() == 0) all[64] = 0;", "thread 0 writes 4 bytes, 0 after the end"),
    ("if (thread_index() == 0) all[1] = all[-1];", "reads 4 bytes"),
    ("if (thread_index() == 0) add_to(all + 64, 1u);", "writes 4 bytes, 0 after the end"),
    ("if (thread_index() == 0) *(uint64 *)(all + 1) = 1;", "8 bytes are not aligned"),
    (
        "struct alignas(16) Pair { double a, b; }; ((Pair *)all)[1] = ((Pair *)(all + 2))[0];",
        "16 bytes are not aligned",
    ),
)


def kernels_of(*bodies):
    """Return a source with kernels of these bodies, and what each one is called."""
    kernels = [f"KERNEL(64) of_test_{i}(uint32 *all) {{ {body} }}" for i, body in enumerate(bodies)]
    return "\n".join(['#include "common.cuh"', *kernels])


@pytest.mark.parametrize("i", range(len(BROKEN)))
def test_what_would_be_wrong_on_a_gpu_is_found(i):
    program, numbers = AllThreads(kernels_of(*dict(BROKEN))), torch.zeros(64, dtype=torch.int32)

    with pytest.raises(BrokenKernelError, match=BROKEN[i][1]):
        program.launch(f"of_test_{i}", 2, 64, numbers, shared=8)


def test_blocks_are_ordered_by_tickets_alone():
    ticket = "SHARED uint32 place; if (thread_index() == 0) place = take_ticket(all + 1);"
    body = """
        if (thread_index() == 0) all[2 + block_index()] = 7;
        before_ticket();
        sync_threads();
        {ticket}
        sync_threads();
        if (place == 0) return;
        before_ticket();
        if (thread_index() == 0) all[0] = all[2] + all[3];
    """.replace("{ticket}", ticket)
    late = body.replace("before_ticket();\n        if", "if")
    assert late != body
    source = kernels_of(body, late)
    for order in ORDERS.values():
        numbers = torch.zeros(4, dtype=torch.int32)
        AllThreads(source, order).launch("of_test_0", 2, 64, numbers)
        assert numbers.tolist() == [14, 2, 7, 7]

    with pytest.raises(BrokenKernelError, match="a race"):
        AllThreads(source).launch("of_test_1", 2, 64, numbers)


def test_a_cluster_may_read_only_memory_of_blocks_that_surely_live():
    source = """
        #include "common.cuh"
        KERNEL_IN_CLUSTERS(8, 64) advance_3_together(uint32 *all) {
            SHARED uint32 own;
            if (thread_index() == 0) own = 1u + cluster_rank();
            FIRST
            if (thread_index() == 0) all[cluster_rank()] = *in_block(&own, 7 - cluster_rank());
            LAST
        }
    """
    sync, numbers = "sync_cluster();", torch.zeros(8, dtype=torch.int32)
    whole = source.replace("FIRST", sync).replace("LAST", sync)
    AllThreads(whole).launch("advance_3_together", 8, 64, numbers)
    assert numbers.tolist() == [8, 7, 6, 5, 4, 3, 2, 1]

    for first, last, reason in (("", sync, "begun"), (sync, "", "end")):
        broken = source.replace("FIRST", first).replace("LAST", last)
        with pytest.raises(BrokenKernelError, match=reason):
            AllThreads(broken).launch("advance_3_together", 8, 64, numbers)


def test_a_barrier_that_is_missing_from_the_library_is_found(monkeypatch):
    whole = (programs.SOURCES / "seeding.cu").read_text()
    broken = re.sub(r"(sums\[warp_index\(\)\] = own;)\s+sync_threads\(\);", r"\1", whole)
    assert broken != whole
    source = f'#include "common.cuh"\n{broken}'
    monkeypatch.setattr(programs, "_program", lambda *_: AllThreads(source))
    arrays.watch(monkeypatch)
    points, weights = color_problem(300, 3)
    packed = REFERENCE.pack([points], [weights], is_integral=True)
    tiles = layout.lay_out(packed)
    room = memory.Memory(CPU, **searching.seed_parts(tiles, 1, 5))
    draws = torch.from_numpy(np.random.default_rng(3).random((1, 5, 6)))

    with pytest.raises(BrokenKernelError, match=r"seed_3: (a race|what nobody has written)"):
        searching.seed(tiles, draws.data_ptr(), (1, 5, 6), 5, room)
