"""KMeans: the scikit-learn estimator on top of `gpu_kmeans.kmeans`.

    from gpu_kmeans import KMeans        # was: from sklearn.cluster import KMeans

and the program runs as before: the parameters, the attributes and the stopping rule are those of
scikit-learn. Equal rows of pixels count once (`gpu_kmeans.equal_rows`), so the textbook program
on a photograph costs what its distinct colours cost. Tensors go in and come out where they are.

Differs:
    From the same first centres both walk the same way, but random starts are other ones, since
    the random numbers are drawn otherwise.
    `tol` is relative to the weighted variance, so that weight w is the same as w copies in every
    respect; scikit-learn takes the variance without weights.
    A callable `init` gets the rows as they are; scikit-learn hands it rows less their mean.
    Empty clusters take far points one after another, so that two never take copies of one point.
    Sparse input is made dense, which is refused where that takes over 2 GiB.
    Values beyond 1e14 (float32) or 1e140 (float64), negative weights, and numbers written as
        strings are refused.
"""

import sys
import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor

from gpu_kmeans.backends import Accumulated, Backend, backend_for
from gpu_kmeans.checks import as_tensor, check_device, check_integer, check_points
from gpu_kmeans.distances import MeanMetric, metric_for
from gpu_kmeans.equal_rows import count_rows
from gpu_kmeans.errors import InputError, OptionError, ShapeError
from gpu_kmeans.lloyd import KMeansResult, kmeans

__all__ = ["KMeans"]

Array = Tensor | np.ndarray

ALGORITHMS = ("lloyd", "elkan")
RANDOM_STARTS = 10  # scikit-learn's "auto" for starts that are not k-means++'s
MAX_DENSE_BYTES = 1 << 31
WIDER = {  # PyTorch finds no minimum of these
    torch.uint16: torch.int32,
    torch.uint32: torch.int64,
    torch.uint64: torch.float64,
}


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """K-means with scikit-learn's interface and stopping rule.

    Args:
        n_clusters: How many clusters, >= 1.
        init: "k-means++", "random", the first centres (n_clusters, n_features), or a callable
            `init(X, n_clusters, random_state=...)` that returns them.
        n_init: Starts, the lowest inertia being kept; "auto" is 1, but 10 for random starts and
            callables. Given centres start once.
        max_iter: The most iterations of one start.
        tol: Relative tolerance on the centres' shift; see `gpu_kmeans.kmeans`.
        verbose: Above 0, the iterations of the best start are written to standard output.
        random_state: As in scikit-learn: an integer gives the same bits each time, a RandomState
            is drawn from, None draws from NumPy's global one.
        copy_x: Taken for compatibility: X is never changed.
        algorithm: "lloyd" or "elkan", taken for compatibility: both name exact algorithms that
            give the same clusters, and what is run is exact Lloyd with a pruning of its own.
        metric: The distance: "euclidean", "cityblock", "chebyshev", "minkowski" or "cosine", each
            with an objective and centres of its own, see `gpu_kmeans.kmeans`.
        p: The exponent of "minkowski", 1 <= p; of nothing else.
        device: Where to compute: "cpu", "cuda", "auto" for CUDA where there is one; None leaves
            tensors where they are and all else on the CPU.
        backend: "auto", or one of `gpu_kmeans.backends.available_backends()`.

    Attributes:
        cluster_centers_: (n_clusters, n_features), float32 for float32 and for tensors of half
            precision, else float64. It, `labels_` and what the methods return are tensors, on the
            device of X, where X is one.
        labels_: (n_samples,) int32.
        inertia_: Weighted sum of squared distances to the centres (WCSS), a float; for another
            metric, of what its objective adds up.
        n_iter_: Iterations of the best start.
        n_features_in_: Features seen by fit.
        feature_names_in_: Their names, where X is a data frame with names that are strings.

    Example:
        >>> KMeans(n_clusters=2, random_state=0).fit([[0], [1], [9], [10]]).inertia_
        1.0
    """

    # Any: by scikit-learn's convention everything is taken here, and checked by fit.
    def __init__(
        self,
        n_clusters: Any = 8,
        *,
        init: Any = "k-means++",
        n_init: Any = "auto",
        max_iter: Any = 300,
        tol: Any = 1e-4,
        verbose: Any = 0,
        random_state: Any = None,
        copy_x: Any = True,
        algorithm: Any = "lloyd",
        metric: Any = "euclidean",
        p: Any = 2.0,
        device: Any = None,
        backend: Any = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.metric = metric
        self.p = p
        self.device = device
        self.backend = backend

    def fit(self, X: object, y: object = None, sample_weight: object = None) -> "KMeans":  # noqa: ARG002
        """Find the clusters of the rows of X.

        Args:
            X: (n_samples, n_features) numbers: an array, a tensor, a data frame, lists, or a SciPy
                sparse matrix, which is made dense. Integers are taken as float64.
            y: Not used.
            sample_weight: (n_samples,) how much each row counts, >= 0; None for alike.

        Returns:
            The estimator, fitted.

        Raises:
            ValueError: X has NaN, infinity or too few rows, or a parameter is out of range.
            DeviceError: The device or the backend cannot be had.

        Warns:
            ConvergenceWarning: There are fewer distinct rows than clusters: centres repeat.
            RuntimeWarning: n_init asks for several starts from given centres, or algorithm is
                "elkan" for one cluster.
        """
        self._n_init = self._check_parameters()
        points = self._check_rows(X, reset=True)
        if len(points) < self.n_clusters:
            raise InputError(f"n_samples={len(points)} should be >= n_clusters={self.n_clusters}.")
        masses = _check_weights(sample_weight, points)
        exists = None if masses is None else masses > 0
        metric_for(self.metric, self.p).check(points, exists=exists)  # names the row of X
        rows, masses, inverse = count_rows(points, masses, self._engine(points))
        result = self._best_start(X, points, rows, masses)
        labels, centers = cast("Tensor", result.labels), cast("Tensor", result.centroids)
        found = int((torch.bincount(labels.cpu()) > 0).sum())
        if found < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({found}) found smaller than "
                f"n_clusters ({self.n_clusters}). Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=2,
            )
        repeated = torch.arange(self.n_clusters, device=centers.device) % len(centers)
        self.cluster_centers_ = _like(centers[repeated], X)
        self.labels_ = _like(labels if inverse is None else labels[inverse], X)
        self.inertia_ = result.wcss
        self.n_iter_ = result.n_iter
        self._n_features_out = self.n_clusters
        if self.verbose:
            _write_history(result, self.tol)
        return self

    def fit_predict(self, X: object, y: object = None, sample_weight: object = None) -> Array:  # noqa: ARG002
        """Fit, and return `labels_`.

        Args:
            X: As in `fit`.
            y: Not used.
            sample_weight: As in `fit`.

        Returns:
            (n_samples,) int32, the index of each row's centre.

        Raises:
            ValueError: As `fit`.
        """
        return self.fit(X, sample_weight=sample_weight).labels_

    def fit_transform(self, X: object, y: object = None, sample_weight: object = None) -> Array:  # noqa: ARG002
        """Fit, and return the distances of the same rows.

        Args:
            X: As in `fit`.
            y: Not used.
            sample_weight: As in `fit`.

        Returns:
            (n_samples, n_clusters), see `transform`.

        Raises:
            ValueError: As `fit`.
        """
        self.fit(X, sample_weight=sample_weight)
        return self._transform(X)

    def predict(self, X: object) -> Array:
        """Return the index of the nearest centre of each row.

        Args:
            X: (n_samples, n_features), of any kind that `fit` takes.

        Returns:
            (n_samples,) int32 in [0, n_clusters), exact ties going to the lowest.

        Raises:
            NotFittedError: fit was not called.
            ValueError: X does not fit.
        """
        accumulated, inverse = self._assign(X, None, labels=True)
        labels = accumulated.labels
        return _like(labels if inverse is None else labels[inverse], X)

    def transform(self, X: object) -> Array:
        """Return the distance of each row to each centre.

        Args:
            X: (n_samples, n_features), of any kind that `fit` takes.

        Returns:
            (n_samples, n_clusters) distances by the metric; a data frame where `set_output` asks
            for one.

        Raises:
            NotFittedError: fit was not called.
            ValueError: X does not fit.
        """
        check_is_fitted(self)
        return self._transform(X)

    def score(self, X: object, y: object = None, sample_weight: object = None) -> float:  # noqa: ARG002
        """Return the negative of what `inertia_` would be of X with these centres.

        Args:
            X: (n_samples, n_features), of any kind that `fit` takes.
            y: Not used.
            sample_weight: (n_samples,) how much each row counts, >= 0; None for alike.

        Returns:
            A number <= 0; higher is better.

        Raises:
            NotFittedError: fit was not called.
            ValueError: X does not fit.
        """
        accumulated, _ = self._assign(X, sample_weight, labels=False)
        return -float(accumulated.wcss[0]) * metric_for(self.metric, self.p).scale

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_parameters(self) -> int:
        """Check what `kmeans` does not know; return the number of starts."""
        check_integer("n_clusters", self.n_clusters, low=1)
        if self.algorithm not in ALGORITHMS:
            raise OptionError("algorithm", self.algorithm, "'lloyd' or 'elkan', which is the same")
        if self.algorithm == "elkan" and self.n_clusters == 1:
            warnings.warn(
                "algorithm='elkan' doesn't make sense for a single cluster. Using 'lloyd' instead.",
                RuntimeWarning,
                stacklevel=3,
            )
        is_given = not isinstance(self.init, str) and not callable(self.init)
        if isinstance(self.n_init, str):
            if self.n_init != "auto":
                raise OptionError("n_init", self.n_init, "'auto' or a whole number from 1 up")
            return 1 if is_given or str(self.init) == "k-means++" else RANDOM_STARTS
        starts = check_integer("n_init", self.n_init, low=1)
        if not is_given or starts == 1:
            return starts
        warnings.warn(
            "Explicit initial center position passed: performing only one init in KMeans "
            f"instead of n_init={starts}.",
            RuntimeWarning,
            stacklevel=3,
        )
        return 1

    def _check_rows(self, X: object, *, reset: bool) -> Tensor:
        """Take X as a tensor on the device where the work is to be done."""
        if isinstance(X, Tensor):
            _check_tensor(X)
            points = as_tensor("X", validate_data(self, X, reset=reset, skip_check_array=True))
        else:
            table = validate_data(self, X, reset=reset, accept_sparse="csr", dtype="numeric")
            table = table if isinstance(table, np.ndarray) else _dense(table)
            is_too_large = table.dtype == np.uint64  # for int64
            points = as_tensor("X", table.astype(np.float64) if is_too_large else table)
        if points.dtype == torch.bool:
            points = points.to(torch.uint8)
        if points.dtype in WIDER:
            points = points.to(WIDER[points.dtype])
        if points.is_floating_point() and points.dtype != torch.float64:
            points = points.to(torch.float32)
        return points.to(self._place(points))

    def _place(self, points: Tensor) -> torch.device:
        if self.device is None or (self.device == "auto" and not torch.cuda.is_available()):
            return points.device
        if self.device == "auto":
            return points.device if points.is_cuda else torch.device("cuda")
        return check_device(self.device, "'cpu', 'cuda', 'auto' or None")

    def _engine(self, points: Tensor) -> Backend:
        return backend_for(points.device, self.backend)

    def _best_start(
        self, X: object, points: Tensor, rows: Tensor, masses: Tensor | None
    ) -> KMeansResult:
        """Cluster the distinct rows from each first centres; keep the first of the best."""
        seed, starts, inits = 0, 1, self._first_centers(X, points)
        if isinstance(self.init, str):
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            starts = self._n_init
        results = [
            kmeans(
                rows,
                self.n_clusters,
                weights=masses,
                init=init,
                metric=self.metric,
                p=self.p,
                n_init=starts,
                max_iter=self.max_iter,
                tol=self.tol,
                seed=seed,
                backend=self.backend,
            )
            for init in inits
        ]
        return min(results, key=lambda result: result.wcss)

    def _first_centers(self, X: object, points: Tensor) -> Sequence[str | Tensor]:
        if isinstance(self.init, str):
            return [str(self.init)]
        if not callable(self.init):
            return [self._check_centers(self.init, points)]
        rng = check_random_state(self.random_state)
        table = _like(points if points.is_floating_point() else points.double(), X)
        drawn = [self.init(table, self.n_clusters, random_state=rng) for _ in range(self._n_init)]
        return [self._check_centers(centers, points) for centers in drawn]

    def _check_centers(self, centers: object, points: Tensor) -> Tensor:
        values = as_tensor("init", centers)
        what = f"The shape of the initial centers {tuple(values.shape)} does not match"
        if values.shape[:1] != (self.n_clusters,):
            raise ShapeError(f"{what} the number of clusters {self.n_clusters}.")
        if values.shape[1:] != points.shape[1:]:
            raise ShapeError(f"{what} the number of features of the data {points.shape[1]}.")
        return values

    def _assign(
        self, X: object, sample_weight: object, *, labels: bool
    ) -> tuple[Accumulated, Tensor | None]:
        """Run one pass over the distinct rows of X: what it found, and each row's distinct one."""
        check_is_fitted(self)
        points = self._check_rows(X, reset=False)
        metric, engine = metric_for(self.metric, self.p), self._engine(points)
        masses = _check_weights(sample_weight, points)
        if isinstance(metric, MeanMetric) or not labels:  # the nearest is so without any power
            metric.check(points, exists=None if masses is None else masses > 0)
        rows, masses, inverse = count_rows(points, masses, engine)
        table, centers = self._promote(rows)
        table, masses = check_points(metric.prepare(table), masses)
        problem = engine.pack([table], [masses], is_integral=False)
        offsets = (0, len(centers))
        passes = metric.on(engine)
        return passes.assign_accumulate(problem, centers, offsets, labels=labels), inverse

    def _transform(self, X: object) -> Array:
        metric = metric_for(self.metric, self.p)
        points, centers = self._promote(self._check_rows(X, reset=False))
        if isinstance(metric, MeanMetric):
            metric.check(points)
        return _like(metric.between(metric.prepare(points), centers).to(points.dtype), X)

    def _promote(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return points and centres in the wider of their two types."""
        centers = as_tensor("cluster_centers_", self.cluster_centers_).to(points.device)
        dtype = points.dtype if points.is_floating_point() else torch.float64
        dtype = torch.promote_types(dtype, centers.dtype)
        return points.to(dtype), centers.to(dtype)


def _check_tensor(X: Tensor) -> None:
    """Refuse what `validate_data` refuses of arrays."""
    if X.layout != torch.strided:
        raise ShapeError(f"X must be a dense tensor, got {X.layout}; use X.to_dense()")
    if X.is_complex():
        raise ShapeError(f"X must hold real numbers, got {X.dtype}")
    check_points(X)


def _check_weights(sample_weight: object, points: Tensor) -> Tensor | None:
    if sample_weight is None:
        return None
    if isinstance(sample_weight, Tensor):
        sample_weight = sample_weight.detach().cpu().numpy()
    rows = np.empty(len(points))  # of which only the number is looked at
    checked = _check_sample_weight(sample_weight, rows, ensure_non_negative=True)
    return as_tensor("sample_weight", checked).to(points.device, torch.float64)


def _dense(X: Any) -> np.ndarray:
    """Write out what a SciPy sparse matrix leaves out, where that is not too much."""
    size = X.shape[0] * X.shape[1] * max(X.dtype.itemsize, 4)
    if size > MAX_DENSE_BYTES:
        raise InputError(
            f"X is sparse, and this KMeans makes it dense: {X.shape} would take {size / 2**30:.1f} "
            f"GiB, over {MAX_DENSE_BYTES / 2**30:.0f}; reduce it first, as by TruncatedSVD"
        )
    return cast("np.ndarray", X.toarray())


def _like(values: Tensor, X: object) -> Array:
    return values.to(X.device) if isinstance(X, Tensor) else values.cpu().numpy()


def _write_history(result: KMeansResult, tol: float) -> None:
    *history, last = result.wcss_history
    lines = [f"Iteration {i}, inertia {wcss}." for i, wcss in enumerate(history)]
    if result.converged:
        why = (
            "strict convergence"
            if last == history[-1]
            else f"center shift is within tolerance {tol}"
        )
        lines.append(f"Converged at iteration {result.n_iter - 1}: {why}.")
    sys.stdout.write("\n".join(["Initialization complete", *lines, ""]))
