"""The kernels compile for a Hopper GPU, though there is none here, and fit into its registers.

The interpreter takes much that the compiler refuses. Compiling is done in a process of its
own, where Triton is not told to interpret.
"""

import ctypes
import functools
import importlib.util
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_kmeans.backends.cuda import colors, dithering, passes, searching, seeds, steps
from gpu_kmeans.backends.cuda import program as programs

PROGRAM = Path(__file__).parent / "compile_kernels.py"


@pytest.fixture(scope="module")
def compiled():
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_every_kernel_is_compiled(compiled):
    kernels = {
        name
        for module in (colors, passes, seeds, steps)
        for name, value in vars(module).items()
        if hasattr(value, "arg_names") and not name.startswith("_") and not name.endswith("_step")
    }

    assert {kernel["name"] for kernel in compiled} == kernels


def test_nothing_of_note_is_spilled_to_memory(compiled):
    spilled = {k["name"]: k["spilled_bytes"] for k in compiled if k["spilled_bytes"] > 64}

    assert not spilled


def test_exact_kernels_have_no_fused_multiply_add(compiled):
    exact = [kernel for kernel in compiled if kernel["is_exact"]]

    assert exact
    for kernel in exact:
        assert not [name for name in kernel["instructions"] if name.startswith("fma.")], kernel


def test_division_and_root_are_rounded_as_ieee_has_it(compiled):
    found = {n for kernel in compiled for n in kernel["instructions"] if n[:4] in ("div.", "sqrt")}

    assert found <= {"div.rn.f64", "sqrt.rn.f64", "div.s64", "div.s32"}


def test_nothing_but_whole_numbers_is_added_atomically_and_no_tensor_core_rounds(compiled):
    found = {n for kernel in compiled for n in kernel["instructions"]}
    atomics = {n for n in found if n.startswith(("atom.", "red."))}

    assert {n.rsplit(".", 1)[1] for n in atomics} == {"u32", "u64"}
    assert not [n for n in found if "mma" in n]


# CUDA C++, by the compiler that compiles it where there is a GPU

GPUS = [(8, 0), (9, 0)]
FILES = sorted(path.stem for path in programs.SOURCES.glob("*.cu"))
FUSING = {"passes", "search", "seeding"}  # on purpose, where it is exact
# Threads to a block of each kernel, as they are launched.
THREADS = {
    "trial": {32},
    "search": {searching.THREADS, searching.CLUSTERED_THREADS},
    "dithering": {
        dithering.PREPARING_THREADS, dithering.LISTING_THREADS, dithering.BAND_THREADS,
        dithering.MOST_ROW_THREADS,
    },
}  # fmt: skip


@functools.cache
def nvrtc():
    """Load NVIDIA's compiler, and first what it looks for beside itself."""
    (folder,) = importlib.util.find_spec("nvidia").submodule_search_locations
    found = sorted(Path(folder).glob("cu*/lib/libnvrtc-builtins.so.*"))
    ctypes.CDLL(str(found[-1]))
    return ctypes.CDLL(str(next(found[-1].parent.glob("libnvrtc.so.*"))))


@functools.cache
def built(name, capability):
    """Compile a file as `Program` does; return the binary and what people can read of it."""
    source = programs._source("common.cuh") + programs._source(f"{name}.cu")
    binary, text = programs.compile_by(nvrtc(), capability, name, source, ("CUBIN", "PTX"))
    return binary, text.decode()


@pytest.mark.parametrize("capability", GPUS, ids=str)
@pytest.mark.parametrize("name", FILES)
def test_cuda_cpp_is_compiled_for_gpus(name, capability):
    binary, text = built(name, capability)

    assert binary.startswith(b"\x7fELF")
    kernels = re.findall(r"\.entry (\w+)", text)
    assert kernels
    assert all(kernel.encode() in binary for kernel in kernels)


@pytest.mark.parametrize("capability", GPUS, ids=str)
@pytest.mark.parametrize("name", FILES)
def test_cuda_cpp_fuses_nothing_but_what_says_so(name, capability):
    _, text = built(name, capability)
    fused = set(re.findall(r"\b(?:fma|mad)\.[\w.]*f\d\d", text))

    assert fused == ({"fma.rn.f32"} if name in FUSING else set())
    assert not re.search(r"\b(?:div|sqrt)\.(?:approx|full)|\.ftz\b", text)
    assert not re.search(r"\b(?:atom|red)\.[\w.]*f(?:16|32|64)", text)


@pytest.mark.parametrize("name", THREADS)
def test_kernels_of_cuda_cpp_take_as_many_threads_as_are_launched(name):
    _, text = built(name, (9, 0))

    assert {int(most) for most in re.findall(r"\.maxntid (\d+)", text)} == THREADS[name]


@pytest.mark.parametrize(
    ("name", "most"), [("moments", dithering.OWN_BYTES), ("search", searching.OWN_BYTES)], ids=str
)
def test_variables_of_a_block_take_no_more_memory_than_is_left_for_them(name, most):
    sizes = shared_variables(built(name, (9, 0))[0])

    assert sizes
    assert max(sizes) <= most


def shared_variables(binary):
    """Return how many bytes the variables of a block take, for each kernel of an ELF file."""
    begin, size, count, of_names = (
        *struct.unpack_from("<Q", binary, 40),
        *struct.unpack_from("<3H", binary, 58),
    )
    sections = [struct.unpack_from("<IIQQQQ", binary, begin + i * size) for i in range(count)]
    names = sections[of_names][4]
    return [of[5] for of in sections if binary.startswith(b".nv.shared.", names + of[0])]


def test_blocks_search_in_clusters_where_gpus_have_them():
    of_old, of_new = (built("search", capability)[1] for capability in GPUS)

    assert f".reqnctapercluster {searching.CLUSTER}," in of_new
    assert of_new.count(".reqnctapercluster") == 2
    assert "cluster" not in of_old.lower()
