"""Compile every kernel for a Hopper GPU and print, as JSON, what came of it. Needs no GPU.

python tests/compile_kernels.py     without TRITON_INTERPRET in the environment
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gpu_kmeans.backends.cuda import colors, passes, seeds, steps
from gpu_kmeans.backends.cuda.walks import EXACT, REACH, warps_for

TARGET = GPUTarget("cuda", 90, 32)
PTXAS = Path(triton.__path__[0]) / "backends/nvidia/bin/ptxas"
INSTRUCTION = re.compile(r"\b(?:atom|red|fma|div|sqrt|mma|wgmma)\.[\w.]+")
FIGURES = re.compile(
    r"(\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers", re.DOTALL
)
FLOAT, WHOLE = "*fp32", "*i32"
# What each pointer points to, by the name of the argument, where it is not the kernel's own type.
TYPES = {
    "boxes": FLOAT,
    "centroids": FLOAT,
    "best": FLOAT,
    "palette": FLOAT,
    "nearest": FLOAT,
    "smallest": FLOAT,
    "smallest_out": FLOAT,
    "second": FLOAT,
    "second_out": FLOAT,
    "points": FLOAT,
    "strength": "*fp64",
    "potentials": "*fp64",
    "left": "*fp64",
    "uniforms": "*fp64",
    "wcss": "*fp64",
    "lowest": "*fp64",
    "history": "*fp64",
    "limits": "*fp64",
    "still": "*fp64",
    "luck": "*fp64",
    "slabs": "*fp64",
    "table": "*i64",
    "slab_of": "*i64",
    "meetings": "*i64",
    "sums": "*i64",
    "pixels": "*u8",
    "indices": "*u8",
}
NUMBERS = {"share", "size", "tiles", "programs", "dimensions", "breath", "is_last", "limit"}
NUMBERS |= {"step", "draws", "most", "n", "h", "w", "k", "first_row", "first_column"}


def cases() -> Iterator[tuple[object, dict[str, object], dict[str, str], int, bool]]:
    """Every kernel, with what is known when it is compiled, types, warps, and whether exact."""
    counts = {"weights": "*i64"}
    masses = {"weights": "*fp64"}
    shape = {"TILE": passes.TILE}
    for step, detail, labels, d, width in (
        (steps.NOTHING, False, True, 3, 64),
        (steps.NOTHING, True, False, 4, 256),
        (steps.DESCEND, False, False, 3, 256),
        (steps.DESCEND, False, False, 4, 512),
        (steps.OVER_RELAXED, False, False, 3, 256),
        (steps.SETTLE, False, False, 3, 128),
        (steps.SPLIT, True, False, 3, 128),
        (steps.SPLIT, True, False, 4, 512),
        (steps.DROP, True, False, 3, 128),
        (steps.DROP, True, False, 4, 512),
    ):
        known = {"D": d, "K": width, "COLUMNS": 2 * d + 3, "DETAIL": detail, "LABELS": labels}
        known |= {"STEP": step.value, "REACH": REACH, **shape}
        yield passes.color_pass, known, counts, warps_for(width), step.value == steps.SPLIT.value
    for d, second in ((3, True), (1, False)):
        known = {"D": d, "K": 128, "SECOND": second, **shape}
        yield passes.nearest_in_boxes, known, {}, warps_for(128), True
    yield passes.nearest_of_all, {"SECOND": True, "BLOCK": 32, **shape}, {}, 4, True
    doubles = dict.fromkeys(("points", "centroids", "smallest_out", "second_out"), "*fp64")
    yield passes.nearest_of_all, {"SECOND": False, "BLOCK": 32, **shape}, doubles, 4, True
    yield passes.add_up, {"DETAIL": True, "BLOCK": 32, **shape}, masses, 4, True
    for d in (0, 3):
        yield seeds.relax, {"D": d, "BLOCK": 1024, **shape}, masses, 4, True
        yield seeds.evaluate, {"D": d, "BLOCK": 1024, **shape}, masses, 4, True
    yield steps.keep_better, {"LANES": 2, "D": 3, "K": 512}, {}, 4, False
    yield colors.count_colors, {"BLOCK": 1024}, {"colors": "*u8"}, 4, False
    yield colors.rank_pixels, {"BLOCK": 1024}, {"colors": "*u8"}, 4, False
    yield colors.diffuse, {"D": 4, "BITS": 16, "ROWS": 64, "BLOCK": 64}, {"colors": FLOAT}, 1, True
    window = {"REACH": 2, "BLOCK": 256}
    yield colors.reconsider, {"D": 3, "BITS": 16, **window}, {"colors": FLOAT}, 4, True
    yield colors.blurred_moments, {"D": 3, "REACH": 2, "BLOCK": 1024}, {"colors": FLOAT}, 4, False


def compile_one(kernel, known, types, warps, is_exact):
    """Compile a kernel and say what the machine's assembler found."""
    signature = {}
    for name in kernel.arg_names:
        number = "i32" if name in NUMBERS else TYPES.get(name, WHOLE)
        signature[name] = "constexpr" if name in known else types.get(name, number)
    attributes = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(kernel.arg_names)
        if signature[name].startswith("*") or name == "size"
    }
    constants = {(kernel.arg_names.index(name),): value for name, value in known.items()}
    options = {"num_warps": warps, **(EXACT if is_exact else {})}
    source = ASTSource(kernel, signature, constants, attributes)
    text = triton.compile(source, target=TARGET, options=options).asm["ptx"]
    done = subprocess.run(
        [str(PTXAS), "-v", "--gpu-name=sm_90a", "-", "-o", "/dev/null"],
        input=text, capture_output=True, text=True, check=True,
    )  # fmt: skip
    stores, loads, registers = map(int, FIGURES.search(done.stderr).groups())
    return {
        "name": kernel.__name__,
        "known": {name: value for name, value in known.items() if name not in ("TILE", "REACH")},
        "warps": warps,
        "registers": registers,
        "spilled_bytes": max(stores, loads),
        "is_exact": is_exact,
        "instructions": sorted(set(INSTRUCTION.findall(text))),
    }


if __name__ == "__main__":
    json.dump([compile_one(*case) for case in cases()], sys.stdout, indent=1)
