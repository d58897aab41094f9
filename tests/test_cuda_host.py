"""What the host does for the cuda backend: memory, arguments, and how often PyTorch is called.

`make test-gpu` runs this file too where there is a GPU.
"""

import ctypes
import threading

import numpy as np
import pytest
import torch
from samples import photo
from torch.utils._python_dispatch import TorchDispatchMode

from gpu_kmeans import quantize, refinement
from gpu_kmeans.backends import backend_for
from gpu_kmeans.backends.cuda import looks, memory, searching
from gpu_kmeans.backends.cuda import program as programs
from gpu_kmeans.backends.cuda.memory import ALIGNMENT, Memory

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def test_parts_of_memory_are_aligned_and_apart():
    parts = {
        "bytes": (torch.uint8, 3),
        "none": (torch.float32, 0, 4),
        "numbers": (torch.float64, 5, 7),
        "last": (torch.int32, 1),
    }
    room = Memory(DEVICE, **parts)

    for i, (name, (dtype, *shape)) in enumerate(parts.items()):
        part = room.tensor(name)
        part.fill_(i)
        assert (part.dtype, list(part.shape)) == (dtype, shape)
        assert not part.numel() or part.data_ptr() == room[name]
        assert (room[name] - room["bytes"]) % ALIGNMENT == 0

    assert all((room.tensor(name) == i).all() for i, name in enumerate(parts))


def test_parts_come_to_the_host_in_one_copy():
    room = Memory(
        DEVICE,
        a=(torch.float64, 2, 2),
        between=(torch.int64, 9),
        b=(torch.int32, 3),
        c=(torch.int32, 1),
    )
    for i, name in enumerate("abc"):
        room.tensor(name).fill_(i + 0.5 if name == "a" else i)

    first, last = room.fetch("a", "b")

    assert first.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert last.tolist() == [1, 1, 1]


def test_what_is_lent_cleared_grows_and_is_kept_for_each_stream(monkeypatch):
    monkeypatch.setattr(memory, "_cleared", {})
    small = memory.cleared(100, DEVICE)

    large = memory.cleared(len(small) + 1, DEVICE)

    assert memory.cleared(100, DEVICE) is large
    assert not large.any()
    monkeypatch.setattr(memory, "stream_of", lambda _: -1)
    assert memory.cleared(100, DEVICE) is not large


def test_passes_leave_what_they_were_lent_cleared(monkeypatch):
    monkeypatch.setattr(memory, "_cleared", {})
    for options in ({"refine": 1}, {"space": "oklab", "dither": 0.5}, {"max_iter": 2}):
        quantize(torch.from_numpy(photo(6)).to(DEVICE), 40, backend="cuda", **options)

    assert memory._cleared
    assert not any(lent.any() for lent in memory._cleared.values())


def test_a_problem_too_heavy_for_words_has_no_seeds_and_is_searched_all_the_same():
    from gpu_kmeans import lloyd

    engine, reference = backend_for(DEVICE, "cuda"), backend_for(torch.device("cpu"), "reference")
    points = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (90, 3)) * 8).float()
    fit = lloyd.Fit(k=3, n_init=1, max_iter=1, tol=0.0, refine=0, seed=5)
    for total in (2**31 - 90, 2**31):  # the lightest that is too heavy, and one less
        weights = torch.full((90,), float(total // 90 + 1), dtype=torch.float64)
        (ours,) = fit.search_together(
            engine, [(points.to(DEVICE), weights.to(DEVICE))], "k-means++", lambda _: None
        )

        problem = reference.pack([points], [weights], is_integral=True)
        assert torch.equal(ours.cpu(), fit.search(reference, problem, "k-means++", lambda _: None))


# Arguments of launches

DRIVER = """
extern "C" {
unsigned sizes[7];
long long seen[3];
double number;
void *stream_seen;
int asked[2];
int cuModuleGetFunction(void **function, void *, const char *) {
    *function = (void *)77;
    return 0;
}
int cuFuncSetAttribute(void *, int attribute, int value) {
    asked[0]++, asked[1] = attribute == 8 ? value : -1;
    return 0;
}
int cuLaunchKernel(void *function, unsigned a, unsigned b, unsigned c, unsigned d, unsigned e,
                   unsigned f, unsigned shared, void *stream, void **parameters, void **extra) {
    unsigned all[] = {a, b, c, d, e, f, shared};
    for (int i = 0; i < 7; i++) sizes[i] = all[i];
    seen[0] = *(int *)parameters[0];
    seen[1] = *(long long *)parameters[1];
    number = *(double *)parameters[2];
    seen[2] = *(long long *)parameters[3];
    stream_seen = stream;
    return function != (void *)77 || extra;
}
}
"""


@pytest.fixture
def driver():
    """A driver that remembers what it was told last."""
    return programs._compile_here("driver", DRIVER)


def launched_by(driver):
    made = object.__new__(programs.Program)
    driver.cuLaunchKernel.argtypes = programs.LAUNCH_TYPES
    made._driver, made._lock, made._device = driver, threading.Lock(), torch.device("cpu")
    made._kernels = {"kernel": (ctypes.c_void_p(77), 48 << 10)}
    return made


def test_the_driver_is_handed_each_argument_in_a_slot_of_its_own(driver):
    address = 3 << 45
    for negative, number in ((-5, 0.1), (6, -2.0)):
        launched_by(driver)._on_cuda("kernel", 9, 64, [negative, address, number, 0], 1000)

        seen = list((ctypes.c_longlong * 3).in_dll(driver, "seen"))
        assert seen == [negative, address, 0]
        assert ctypes.c_double.in_dll(driver, "number").value == number
        sizes = list((ctypes.c_uint * 7).in_dll(driver, "sizes"))
        assert sizes == [9, 1, 1, 64, 1, 1, 1000]
        assert not ctypes.c_void_p.in_dll(driver, "stream_seen").value


def test_the_driver_is_asked_for_shared_memory_however_little_it_is(driver):
    """48 KB come unasked, but the variables of the kernel are among them."""
    made = launched_by(driver)
    made._kernels, made._module = {}, ctypes.c_void_p()
    for shared, asked in (
        (0, [0, 0]),
        (40_000, [1, 40_000]),
        (30_000, [1, 40_000]),
        (90_000, [2, 90_000]),
    ):
        assert made._function("kernel", shared).value == 77

        assert list((ctypes.c_int * 2).in_dll(driver, "asked")) == asked


def test_threads_have_slots_of_their_own():
    own, others = programs._slots.bytes, []
    thread = threading.Thread(target=lambda: others.append(programs._slots.bytes))
    thread.start()
    thread.join()

    assert ctypes.addressof(own) != ctypes.addressof(others[0])
    assert programs._slots.bytes is own


# What a device has room for, and which one it is


@pytest.mark.parametrize(("room", "lanes"), [(227 << 10, 8), (163 << 10, 8), (99 << 10, 1)])
def test_blocks_search_together_only_where_their_memory_is_enough(monkeypatch, room, lanes):
    launched = []
    tiles = backend_for(DEVICE, "cuda").pack(*given_points(), is_integral=True).layout
    plan = refinement.search_plan(270, 1.0, [np.random.default_rng(0)])

    class Recorder:
        def launch(self, kernel, grid, _threads, *_arguments, shared):
            launched.append((kernel, grid // plan.lanes, shared))

    monkeypatch.setattr(searching, "program", lambda *_: Recorder())
    monkeypatch.setattr(searching, "_cluster_size", lambda _: searching.CLUSTER)
    monkeypatch.setattr(searching, "shared_bytes", lambda _: room)
    search = searching.Search(tiles, plan, 0, (1, 400, 2))
    search.advance(0, 270, plan.extra[0])

    ((kernel, blocks, shared),) = launched
    assert kernel == ("advance_4_together" if blocks > 1 else "advance_4")
    assert blocks == lanes
    assert shared + searching.OWN_BYTES <= room


def given_points():
    return [torch.rand(300, 4).round()], [torch.ones(300, dtype=torch.float64)]


class OnAnother(torch.Tensor):
    """A tensor on a GPU that is not the current one, as far as anybody asks."""

    device = torch.device("cuda:1")


def test_a_look_waits_for_the_device_it_looks_at(monkeypatch):
    waited_for = []

    class Event:
        def record(self, stream):
            waited_for.append(stream)

    status = torch.zeros(3).as_subclass(OnAnother)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda shape, dtype, **_: empty(shape, dtype=dtype))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")

    looks.Look(status)

    assert waited_for == ["the stream of cuda:1"]


# How often PyTorch is called


class Calls(TorchDispatchMode):
    """Counts what PyTorch is asked for."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Count, and go on."""
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_the_host_calls_pytorch_seldom_for_a_picture():
    """It was 578 times once; a call takes the host 10 to 20 us beside a GPU."""
    first, second = (torch.from_numpy(photo(step)).to(DEVICE) for step in (6, 5))
    quantize(first, 64, backend="cuda")

    with Calls() as calls:
        quantize(second, 64, backend="cuda")

    assert calls.count <= 170
