"""The nearest of a few entries to each of many colours, by whatever backend there is."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gpu_kmeans.backends import Backend

__all__ = ["nearest_rows"]


def nearest_rows(
    engine: Backend, features: Float[Tensor, "n d"], entries: Float[Tensor, "k d"]
) -> Int[Tensor, " n"]:
    """Find the nearest entry to each of the features, of equals the first.

    Args:
        engine: Who computes.
        features: On the grid of a space; quickest where neighbours in the list are alike.
        entries: Likewise.

    Returns:
        Rows of the entries, int64. Never raises.
    """
    problem = engine.pack([features], [torch.ones_like(features[:, 0]).double()], is_integral=True)
    found = engine.assign_accumulate(problem, entries, (0, len(entries)), labels=True)
    return found.labels.long()
