"""Kernels of CUDA C++ with all their threads on the CPU: see `fibres/engine.cpp`."""

import ctypes
import functools
import math
import re
import shutil
import subprocess
import tempfile
import weakref
from itertools import chain
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gpu_kmeans.backends.cuda import blocks, memory
from gpu_kmeans.backends.cuda import program as programs
from gpu_kmeans.backends.cuda.memory import ALIGNMENT, Memory

FOLDER = Path(__file__).parent / "fibres"
FORWARD, BACKWARD, SHUFFLED = range(3)  # orders; a greater number is a seed
COMPILE = ["-std=c++17", "-g", "-fPIC", "-ffp-contract=off", "-U_FORTIFY_SOURCE"]
NOTED = [
    "-O1", "-fsanitize=thread", "-DALL_THREADS", "-include", str(FOLDER / "shim.hpp"),
    f"-I{programs.SOURCES}",
]  # fmt: skip
WHOLES, REALS = 40, 8  # the most arguments of a kernel
IN_CLUSTERS = {"advance_3_together": 8, "advance_4_together": 8}


class BrokenKernelError(AssertionError):
    """What would be wrong on a GPU."""


def run(*command, text=None):
    """Run a command; it has to work. Return what it prints."""
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


@functools.cache
def engine():
    """Compile what runs the threads; return the compiler, and where that is."""
    compiler = next(filter(None, map(shutil.which, programs.COMPILERS)))
    made = Path(tempfile.mkdtemp(prefix="gpu-kmeans-")) / "engine.o"
    run(compiler, *COMPILE, "-O2", "-c", FOLDER / "engine.cpp", "-o", made)
    return compiler, made


@functools.cache
def compiled(source):
    """Compile kernels; return the library and where it is."""
    compiler, others = engine()
    folder = Path(tempfile.mkdtemp(prefix="gpu-kmeans-"))
    kernels, library = folder / "kernels.o", folder / "kernels.so"
    run(compiler, *COMPILE, *NOTED, "-c", "-x", "c++", "-", "-o", kernels, text=source)
    run(compiler, "-shared", kernels, others, "-o", library)
    loaded = ctypes.CDLL(str(library))
    loaded.run.restype = ctypes.c_char_p
    loaded.run.argtypes = [
        *4 * (ctypes.c_void_p,), *4 * (ctypes.c_int,), ctypes.c_longlong, ctypes.c_uint,
    ]  # fmt: skip
    return loaded, library


def source_of(name):
    """Return what is compiled for a file of the library's sources."""
    return f'#include "common.cuh"\n#include "{name}.cu"\n'


class Arrays:
    """What kernels may touch: arrays that live, of which somebody has asked where they are."""

    def __init__(self):
        self._seen = []  # who holds an array, where it begins and ends

    def watch(self, monkeypatch):
        """See who asks from now on; leave room between parts of `Memory` that nobody may touch."""
        self._seen = []
        begin, lay_out, place = Tensor.data_ptr, Memory.__init__, Memory.__getitem__

        def data_ptr(tensor):
            self._seen.append((weakref.ref(tensor), *_span(begin(tensor), tensor)))
            return begin(tensor)

        def lay_out_apart(own, device, **parts):
            apart = {f"after {name}": (torch.uint8, ALIGNMENT) for name in parts}
            pairs = zip(parts.items(), apart.items(), strict=True)
            lay_out(own, device, **dict(chain.from_iterable(pairs)))
            self._seen = [one for one in self._seen if one[0]() is not own._whole]

        def place_of(own, name):
            at = place(own, name)
            if name in own._parts:
                dtype, *shape = own._parts[name]
                end = at + math.prod(shape) * dtype.itemsize
                self._seen.append((weakref.ref(own), at, end))
            return at

        monkeypatch.setattr(Tensor, "data_ptr", data_ptr)
        monkeypatch.setattr(Memory, "__init__", lay_out_apart)
        monkeypatch.setattr(Memory, "__getitem__", place_of)
        # What is lent is longer than asked for.
        monkeypatch.setattr(blocks, "cleared", lambda size, on: memory.cleared(size, on)[:size])

    def spans(self, arguments):
        """Return where arrays begin and end, those of the arguments among them, in rising order."""
        self._seen = [one for one in self._seen if one[0]() is not None]
        given = [_span(of.data_ptr(), of) for of in arguments if isinstance(of, Tensor)]
        found = []
        for start, end in sorted({*given, *(one[1:] for one in self._seen)}):
            if found and start < found[-1][1]:
                found[-1][1] = max(end, found[-1][1])
            elif start < end:
                found.append([start, end])
        return found


def _span(begin, tensor):
    assert tensor.is_contiguous()
    return begin, begin + tensor.numel() * tensor.itemsize


arrays = Arrays()


class AllThreads(programs.Program):
    """Stands for `gpu_kmeans.backends.cuda.program.Program`.

    Args:
        source: Of the kernels.
        order: In which threads, warps and blocks run.
        name: Of the file they are from.
    """

    ran: ClassVar = set()  # files and their kernels

    def __init__(self, source, order=FORWARD, name=""):
        self._name = name
        self._library, self._path = compiled(source)
        self._order = order

    def launch(self, kernel, grid, threads, *arguments, shared=0):
        """Run a kernel; raises BrokenKernelError."""
        if not grid:
            return
        self.ran.add((self._name, kernel))
        values = [programs._plain(value) for value in arguments]
        wholes = (ctypes.c_longlong * WHOLES)(*(v for v in values if isinstance(v, int)))
        reals = (ctypes.c_double * REALS)(*(v for v in values if isinstance(v, float)))
        address = ctypes.cast(self._library[kernel], ctypes.c_void_p)
        cluster, spans = IN_CLUSTERS.get(kernel, 1), arrays.spans(arguments)
        ends = (ctypes.c_longlong * (2 * len(spans)))(*chain.from_iterable(spans))
        found = self._library.run(
            address, wholes, reals, ends, len(spans), grid, threads, cluster, shared, self._order
        )
        if found:
            raise BrokenKernelError(f"{kernel}: {self._with_lines(found.decode())}")

    def _with_lines(self, message):
        return re.sub(r"\{(\w+)\}", lambda found: self._line(found[1]), message)

    def _line(self, offset):
        return run("addr2line", "-s", "-e", self._path, offset).split()[0]
