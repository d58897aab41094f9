"""Equal rows are counted once, exactly, or not at all."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gpu_kmeans.backends import backend_for
from gpu_kmeans.equal_rows import count_rows

CPU = backend_for(torch.device("cpu"))
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


def shapes():
    return hnp.array_shapes(min_dims=2, max_dims=2, max_side=5)


@st.composite
def tables(draw):
    """Rows of few levels, in any of the forms people keep pixels in."""
    levels = draw(hnp.arrays(np.int64, shapes(), elements=st.integers(0, 255)))[:, :4]
    form = draw(st.sampled_from(["uint8", "int64", "shifted", "float32", "float64", "unit"]))
    match form:
        case "shifted":
            return levels - draw(st.integers(-(2**40), 2**40))
        case "unit":
            return (levels / 255).astype(draw(st.sampled_from([np.float32, np.float64])))
        case _:
            return levels.astype(form)


@given(tables())
def test_the_counted_rows_give_the_table_back(table):
    rows, counts, inverse = count_rows(torch.from_numpy(table), None, CPU)

    assert torch.equal(rows[inverse], torch.from_numpy(table).to(rows.dtype))
    assert torch.equal(counts, torch.bincount(inverse))
    assert len(rows) == len(np.unique(table, axis=0))


@given(tables(), st.data())
def test_the_weights_of_equal_rows_add_up(table, data):
    n = len(table)
    weights = torch.from_numpy(data.draw(hnp.arrays(np.float64, n, elements=st.integers(0, 9))))

    _, masses, inverse = count_rows(torch.from_numpy(table), weights, CPU)

    assert torch.equal(masses, torch.zeros(len(masses)).double().index_add(0, inverse, weights))


@pytest.mark.parametrize(
    "table",
    [
        [[0.5, 0.25], [0.0, 0.0]],
        [[0], [256]],
        [[-(2**63)], [2**63 - 1]],
        [[2**60], [2**60 + 300]],
        [[1, 2, 3, 4, 5]],
        [[float("nan")], [0.0]],
        [[float("inf")], [0.0]],
        [[float("-inf")], [float("inf")]],
    ],
    ids=str,
)
def test_a_table_of_another_kind_is_left_as_it_is(table):
    points = torch.tensor(table)

    rows, weights, inverse = count_rows(points, None, CPU)

    assert rows is points
    assert weights is None
    assert inverse is None


def test_levels_that_leave_the_range_after_the_first_rows_are_noticed():
    points = torch.zeros(5000, 3)
    points[-1, 0] = 1000

    assert count_rows(points, None, CPU)[0] is points


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_whole_numbers_become_float64_rows(dtype, device):
    points = torch.tensor([[3, 1], [3, 1]], dtype=dtype, device=device)

    rows, counts, inverse = count_rows(points, None, backend_for(device))

    assert rows.dtype == torch.float64
    assert (rows.tolist(), counts.tolist(), inverse.tolist()) == ([[3.0, 1.0]], [2], [0, 0])
