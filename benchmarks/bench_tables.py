"""How fast are tables of numbers clustered, beside scikit-learn?

Tables of more dimensions than a colour has: scikit-learn's digits, blobs, and normal points, in
which nothing can be pruned at first. Two questions for each: the same 20 iterations from the same
centroids, and a whole fit from seeds of one's own; of scikit-learn the faster of its algorithms.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks import machine
from benchmarks.report import Report, parser, table

ITERATIONS = 20
ALGORITHMS = ("lloyd", "elkan")


@dataclass(frozen=True)
class Case:
    """A table of points, and how many clusters are asked for."""

    name: str
    points: np.ndarray
    k: int


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser("Cluster tables beside scikit-learn.").parse_args(arguments)
    repeat = 2 if options.quick else 9 if options.full else 5
    report = Report(
        "Tables of numbers", machine.describe(["torch", "numba", "numpy", "scikit-learn"])
    )
    cases = _cases(0.05 if options.quick else 1.0)
    report.say(f"\n## {ITERATIONS} iterations from the same centroids, ms, median of {repeat}\n")
    _report_iterations(report, cases, repeat)
    report.say(f"\n## A whole fit, k-means++ and tol=1e-4, ms, median of {repeat} seeds\n")
    _report_fits(report, cases, repeat)
    print(f"\nwritten: {report.write(options.out, 'tables')}")


def _cases(share: float) -> list[Case]:
    from sklearn.datasets import load_digits, make_blobs

    rng = np.random.default_rng(0)

    def normal(n: int, d: int) -> np.ndarray:
        return rng.standard_normal((int(share * n), d))

    def blobs(n: int, d: int, centers: int) -> np.ndarray:
        found: np.ndarray = make_blobs(
            int(share * n), d, centers=centers, cluster_std=3, random_state=1
        )[0]
        return found

    return [
        Case("digits, 1,797 x 64", load_digits().data, 10),
        Case("digits, 1,797 x 64", load_digits().data, 64),
        Case("normal, 200,000 x 5", normal(200_000, 5), 8),
        Case("normal, 100,000 x 8", normal(100_000, 8), 20),
        Case("blobs, 50,000 x 16", blobs(50_000, 16, 70), 50),
        Case("blobs, 100,000 x 64, float32", blobs(100_000, 64, 100).astype(np.float32), 100),
        Case("normal, 20,000 x 128, float32", normal(20_000, 128).astype(np.float32), 256),
    ]


def _report_iterations(report: Report, cases: Sequence[Case], repeat: int) -> None:
    from sklearn.cluster import KMeans

    from gpu_kmeans import kmeans

    rows = []
    for case in cases:
        start = case.points[: case.k].copy()

        def ours(case: Case = case, start: np.ndarray = start) -> float:
            fit = kmeans(case.points, case.k, init=start, max_iter=ITERATIONS, tol=0)
            return fit.wcss

        def theirs(algorithm: str, case: Case = case, start: np.ndarray = start) -> float:
            options = {"n_init": 1, "max_iter": ITERATIONS, "tol": 0, "algorithm": algorithm}
            return float(KMeans(case.k, init=start, **options).fit(case.points).inertia_)

        runs = _by_turns(repeat, ours, theirs)
        rows.append(_row(case, runs))
        report.data[f"iterations-{case.name}-k{case.k}"] = runs
    report.say(table(_HEAD, rows))


def _report_fits(report: Report, cases: Sequence[Case], repeat: int) -> None:
    from sklearn.cluster import KMeans

    from gpu_kmeans import kmeans

    rows = []
    for case in cases:
        seeds = {name: iter(range(repeat + 1)) for name in ("ours", *ALGORITHMS)}

        def ours(case: Case = case, seeds: dict = seeds) -> float:
            return kmeans(case.points, case.k, seed=next(seeds["ours"])).wcss

        def theirs(algorithm: str, case: Case = case, seeds: dict = seeds) -> float:
            options = {"n_init": 1, "algorithm": algorithm, "random_state": next(seeds[algorithm])}
            return float(KMeans(case.k, **options).fit(case.points).inertia_)

        runs = _by_turns(repeat, ours, theirs)
        rows.append(_row(case, runs))
        report.data[f"fit-{case.name}-k{case.k}"] = runs
    report.say(table(_HEAD, rows))


_HEAD = ["points", "k", "ours", "lloyd", "elkan", "times", "our WCSS / its"]


def _by_turns(
    repeat: int, ours: Callable[[], float], theirs: Callable[[str], float]
) -> dict[str, list[tuple[float, float]]]:
    """Time each once unseen, then all by turns: seconds and WCSS of every run."""
    runs: dict[str, list[tuple[float, float]]] = {"ours": []} | {name: [] for name in ALGORITHMS}
    for i in range(repeat + 1):
        for name, own in runs.items():
            start = time.perf_counter()
            wcss = ours() if name == "ours" else theirs(name)
            if i:
                own.append((time.perf_counter() - start, wcss))
    return runs


def _row(case: Case, runs: dict[str, list[tuple[float, float]]]) -> list[str]:
    times = {name: statistics.median(s for s, _ in own) for name, own in runs.items()}
    wcss = {name: statistics.mean(w for _, w in own) for name, own in runs.items()}
    best = min(ALGORITHMS, key=lambda name: times[name])
    return [
        case.name,
        str(case.k),
        *(f"{1e3 * times[name]:.1f}" for name in ("ours", *ALGORITHMS)),
        f"{times[best] / times['ours']:.1f}",
        f"{wcss['ours'] / wcss[best]:.4f}",
    ]


if __name__ == "__main__":
    main()
