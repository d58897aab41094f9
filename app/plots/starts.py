"""The random-initialization trap: where many random and many k-means++ starts end."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Num
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from app.plots.drawing import ACCENT, INK, LINE, plain_axes
from gpu_kmeans import kmeans
from gpu_kmeans.progress import Progress, part_of

_CAUGHT = 1.01  # times the best WCSS seen: above, the start has led to another optimum


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """Where each start ended.

    Attributes:
        k: Clusters.
        random: The final WCSS of each random start.
        plus: Of each k-means++ start.
    """

    k: int
    random: Float[np.ndarray, " n"]
    plus: Float[np.ndarray, " n"]

    @property
    def best(self) -> float:
        """The lowest WCSS of all."""
        return float(min(self.random.min(), self.plus.min()))

    def caught(self) -> tuple[float, float]:
        """The shares of random and of k-means++ starts that end over 1 % above the best."""
        limit = self.best * _CAUGHT
        return float((self.random > limit).mean()), float((self.plus > limit).mean())


def try_starts(
    points: Num[np.ndarray, "n d"],
    k: int,
    *,
    starts: int = 100,
    weights: Num[np.ndarray, " n"] | None = None,
    on_progress: Progress | None = None,
) -> Starts:
    """Fit from many starts of either kind, with the seeds 0, 1, 2, ...

    Args:
        points: Any.
        k: Clusters.
        starts: How many of either kind.
        weights: How much each point counts.
        on_progress: Told the share of the work done; what it raises ends the work.

    Returns:
        The final WCSS of each.

    Raises:
        InputError: See `gpu_kmeans.kmeans`.
    """
    found: dict[str, list[float]] = {"random": [], "k-means++": []}
    for i, (seed, init) in enumerate(product(range(starts), found)):
        report = None if on_progress is None else part_of(on_progress, i, 2 * starts)
        fit = kmeans(points, k, weights=weights, init=init, seed=seed, on_progress=report)
        found[init].append(fit.wcss)
    random, plus = map(np.array, found.values())
    return Starts(k=k, random=random, plus=plus)


def starts_figure(starts: Starts) -> Figure:
    """Draw two histograms of final WCSS, over the best.

    Args:
        starts: As `try_starts` gives them.

    Returns:
        A figure of 7 x 4 inches. Never raises.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = plain_axes(figure.add_subplot())
    best = starts.best
    values = [starts.random / (best or 1), starts.plus / (best or 1)]
    least = 1 if best else 0  # there are no multiples of a WCSS of 0
    bins = np.linspace(least, max(least + 0.02, float(np.max(np.concatenate(values)))), 31)
    names, caught = ("random", "k-means++"), starts.caught()
    axes.hist(
        values,
        bins=bins.tolist(),
        weights=[np.full(len(each), 1 / len(each)) for each in values],
        color=[ACCENT, LINE],
        label=[
            f"{name}: {share:.0%} end over 1% above"
            for name, share in zip(names, caught, strict=True)
        ],
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_title(
        f"Where {len(starts.random)} starts of either kind end, k = {starts.k}", color=INK
    )
    axes.set_xlabel("final WCSS / the best seen" if best else "final WCSS")
    axes.set_ylabel("share of the starts")
    axes.legend(frameon=False)
    return figure
