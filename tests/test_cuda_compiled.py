"""The kernels compile for a Hopper GPU, though there is none here, and fit into its registers.

The interpreter takes much that the compiler refuses. Compiling is done in a process of its
own, where Triton is not told to interpret.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_kmeans.backends.cuda import colors, passes, seeds, steps

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
