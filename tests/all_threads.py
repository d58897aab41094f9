"""Kernels of CUDA C++ with all their threads on the CPU: see `fibres/engine.cpp`."""

import ctypes
import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import ClassVar

from gpu_kmeans.backends.cuda import program as programs

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
        *3 * (ctypes.c_void_p,), *3 * (ctypes.c_int,), ctypes.c_longlong, ctypes.c_uint,
    ]  # fmt: skip
    return loaded, library


def source_of(name):
    """Return what is compiled for a file of the library's sources."""
    return f'#include "common.cuh"\n#include "{name}.cu"\n'


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
        cluster = IN_CLUSTERS.get(kernel, 1)
        found = self._library.run(
            address, wholes, reals, grid, threads, cluster, shared, self._order
        )
        if found:
            raise BrokenKernelError(f"{kernel}: {self._with_lines(found.decode())}")

    def _with_lines(self, message):
        return re.sub(r"\{(\w+)\}", lambda found: self._line(found[1]), message)

    def _line(self, offset):
        return run("addr2line", "-s", "-e", self._path, offset).split()[0]
