"""CUDA C++ in this package's `sources`, compiled when it is first wanted.

What Triton cannot say is written in CUDA C++: atomics in shared memory, loops of passes within one
launch. On CUDA, NVRTC compiles it, which PyTorch brings along. On the CPU a C++ compiler makes each
kernel a function with one thread to a block (see `sources/common.cuh`), for tests alone.
"""

import ctypes
import functools
import logging
import re
import shutil
import struct
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpu_kmeans.backends.cuda.devices import on, stream_of

__all__ = ["Program", "available", "program", "shared_bytes"]

logger = logging.getLogger(__name__)

SOURCES = Path(__file__).parent / "sources"
COMPILERS = ("c++", "g++", "clang++")
MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
CPU_ARENA = 1 << 20  # bytes, see `sources/common.cuh`
# What compiling and launching raises: no compiler or driver, one without a function, a refusal.
FAILURES = (OSError, ImportError, AttributeError, RuntimeError)

MOST_ARGUMENTS = 48
# Of a number in a slot, what `struct` and what `ctypes` call it. An int is the lower half of its
# slot: on x86-64 and on 64-bit ARM alike, in registers and on the stack, as for the driver.
KINDS: dict[type, tuple[str, Any]] = {int: ("q", ctypes.c_longlong), float: ("d", ctypes.c_double)}
LAUNCH_TYPES = (ctypes.c_void_p, *7 * (ctypes.c_uint,), *3 * (ctypes.c_void_p,))
SLOT = 8  # bytes of an argument, whatever it is

Argument = Tensor | int | float | None


class _Slots(threading.local):
    """Where a thread puts the arguments of its launches, and pointers to each of them.

    The driver has read them when a launch returns.
    """

    def __init__(self) -> None:
        self.bytes = ctypes.create_string_buffer(MOST_ARGUMENTS * SLOT)
        begin = ctypes.addressof(self.bytes)
        addresses = range(begin, begin + MOST_ARGUMENTS * SLOT, SLOT)
        self.pointers = (ctypes.c_void_p * MOST_ARGUMENTS)(*addresses)


_slots = _Slots()


class Program:
    """The kernels of one file of `sources` on one device.

    Args:
        name: Of the file, without its ending.
        device: Where they run: CUDA, or the CPU for tests.

    Raises:
        OSError: There is no compiler, or no driver.
        RuntimeError: It does not compile, or the driver does not take it.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self._device = device
        source = _source("common.cuh") + _source(f"{name}.cu")
        self._kernels: dict[str, tuple[ctypes.c_void_p, int]] = {}
        self._lock = threading.Lock()
        if device.type == "cuda":
            self._driver = ctypes.CDLL("libcuda.so.1")
            self._driver.cuLaunchKernel.argtypes = LAUNCH_TYPES
            self._module = ctypes.c_void_p()
            with on(device):
                binary = _compile_for(device, name, source)
                self._check(self._driver.cuModuleLoadData(ctypes.byref(self._module), binary))
        else:
            self._library = _compile_here(name, source)

    def launch(
        self, kernel: str, grid: int, threads: int, *arguments: Argument, shared: int = 0
    ) -> None:
        """Run a kernel in so many blocks of so many threads; on CUDA without waiting for it.

        Args:
            kernel: Its name.
            grid: How many blocks.
            threads: To a block.
            arguments: Tensors are passed as pointers, None as none, whole numbers as addresses or
                int, as the kernel has it, others as double.
            shared: Bytes of `arena`.

        Raises:
            RuntimeError: The driver refuses the launch.
        """
        if not grid:
            return
        values = [_plain(value) for value in arguments]
        if self._device.type != "cuda":
            run = self._library[kernel]
            block = ctypes.c_int.in_dll(self._library, "block_of_launch")
            given = [KINDS[type(value)][1](value) for value in values]
            for block.value in range(grid):
                run(*given)
        elif torch.cuda.current_device() == self._device.index:
            self._on_cuda(kernel, grid, threads, values, shared)
        else:
            with on(self._device):
                self._on_cuda(kernel, grid, threads, values, shared)

    def _on_cuda(
        self, kernel: str, grid: int, threads: int, values: Sequence[int | float], shared: int
    ) -> None:
        """Hand the driver a pointer to each argument, all in slots of eight bytes in a row."""
        slots = _slots
        kinds = "".join([KINDS[type(value)][0] for value in values])
        struct.pack_into(f"={kinds}", slots.bytes, 0, *values)
        self._check(
            self._driver.cuLaunchKernel(
                self._function(kernel, shared), grid, 1, 1, threads, 1, 1, shared,
                stream_of(self._device), slots.pointers, None,
            )
        )  # fmt: skip

    def _function(self, kernel: str, shared: int) -> ctypes.c_void_p:
        """Find a kernel, and ask for its shared memory where it has not had as much before.

        However little that is: 48 KB come unasked, but variables of the kernel are among them.
        """
        with self._lock:  # what one thread asks for must not lower what another was granted
            function, granted = self._kernels.get(kernel) or (ctypes.c_void_p(), 0)
            if not function.value:
                name = kernel.encode()
                found = self._driver.cuModuleGetFunction(ctypes.byref(function), self._module, name)
                self._check(found)
            if shared > granted:
                self._check(self._driver.cuFuncSetAttribute(function, MAX_DYNAMIC_SHARED, shared))
                granted = shared
            self._kernels[kernel] = function, granted
            return function

    def _check(self, status: int) -> None:
        if status:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(status, ctypes.byref(text))
            raise RuntimeError(f"CUDA driver: {(text.value or b'unknown error').decode()}")


def _source(file: str) -> str:
    """Read a file of the sources, those it includes in their places."""
    text = (SOURCES / file).read_text()
    return re.sub(r'^#include "(.+)"$', lambda found: _source(found[1]), text, flags=re.MULTILINE)


@functools.cache
def _program(name: str, device: torch.device) -> Program:
    return Program(name, device)


def program(name: str, device: torch.device) -> Program:
    """Return the program of a device, compiled once in a process; raises as `Program` does."""
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    return _program(name, device)


@functools.cache
def shared_bytes(device: torch.device) -> int:
    """Return how much memory of its own a block may have, variables included. Never raises."""
    if device.type != "cuda":
        return CPU_ARENA
    of_device = torch.cuda.get_device_properties(device)
    usual = of_device.shared_memory_per_block
    return int(getattr(of_device, "shared_memory_per_block_optin", usual))


def available(device: torch.device) -> bool:
    """Say whether all kernels compile and run on a device: tried once, and logged once where not.

    Raises:
        torch.OutOfMemoryError: There is no room for the trial; that says nothing about kernels.
    """
    return _is_available(device)


@functools.cache
def _is_available(device: torch.device) -> bool:
    try:
        names = torch.full((2, 32), -1, dtype=torch.int32, device=device)
        program("trial", device).launch("name_threads", 2, 32, names)
        is_right = names.tolist() == [[block * 32 + i for i in range(32)] for block in range(2)]
        reason = None if is_right else "the answer to a trial is wrong"
        for source in sorted(SOURCES.glob("*.cu")):
            program(source.stem, device)
    except torch.OutOfMemoryError:
        raise
    except FAILURES as error:
        reason = f"{type(error).__name__}: {error}"
    if reason is not None:
        logger.warning("CUDA C++ does not run on %s, Triton serves: %s", device, reason)
    return reason is None


def _plain(value: Argument) -> int | float:
    """Return the number that is handed to a kernel."""
    if isinstance(value, Tensor):
        return value.data_ptr()
    return 0 if value is None else value


def _compile_for(device: torch.device, name: str, source: str) -> bytes:
    """Compile for the GPU at hand, by what PyTorch brings along."""
    from torch.cuda._utils import _get_gpu_rtc_library

    capability = torch.cuda.get_device_capability(device)
    return compile_by(_get_gpu_rtc_library(), capability, name, source)[0]


def compile_by(
    compiler: ctypes.CDLL,
    capability: tuple[int, int],
    name: str,
    source: str,
    kinds: Sequence[str] = ("CUBIN",),
) -> list[bytes]:
    """Compile. Products and sums are rounded one by one, unless fused on purpose.

    Args:
        compiler: NVRTC.
        capability: Of the GPU that it is for.
        name: Of the file, without its ending.
        source: Of the kernels.
        kinds: What is wanted: "CUBIN", or "PTX" for what people read.

    Raises:
        RuntimeError: It does not compile; says where.
    """

    def check(status: int) -> None:
        if status:
            compiler.nvrtcGetErrorString.restype = ctypes.c_char_p
            raise RuntimeError(f"NVRTC: {compiler.nvrtcGetErrorString(status).decode()}")

    def read(what: str) -> bytes:
        size = ctypes.c_size_t()
        check(compiler[f"nvrtcGet{what}Size"](unit, ctypes.byref(size)))
        text = ctypes.create_string_buffer(size.value)
        check(compiler[f"nvrtcGet{what}"](unit, text))
        return text.raw

    major, minor = capability
    options = [f"--gpu-architecture=sm_{major}{minor}", "--fmad=false", "--std=c++17"]
    unit = ctypes.c_void_p()
    names = source.encode(), f"{name}.cu".encode()
    check(compiler.nvrtcCreateProgram(ctypes.byref(unit), *names, 0, None, None))
    try:
        given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        if compiler.nvrtcCompileProgram(unit, len(options), given):
            raise RuntimeError(read("ProgramLog").rstrip(b"\0").decode())
        return [read(kind) for kind in kinds]
    finally:
        compiler.nvrtcDestroyProgram(ctypes.byref(unit))


def _compile_here(name: str, source: str) -> ctypes.CDLL:
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise OSError(f"none of {', '.join(COMPILERS)} is installed")
    folder = Path(tempfile.mkdtemp(prefix="gpu-kmeans-"))
    try:
        library = folder / f"{name}.so"
        flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-x", "c++"]
        command = [compiler, *flags, "-o", str(library), "-"]
        done = subprocess.run(command, input=source, text=True, capture_output=True, check=False)  # noqa: S603
        if done.returncode:
            raise RuntimeError(done.stderr)
        return ctypes.CDLL(str(library))
    finally:
        shutil.rmtree(folder)
