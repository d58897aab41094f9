"""KMeans: the scikit-learn estimator on top of `gpu_kmeans.kmeans`.

    from gpu_kmeans import KMeans        # was: from sklearn.cluster import KMeans

and the program runs as before. Rows of equal integers, as pixels are, count once with their weight,
so the textbook program on a photograph costs what its distinct colours cost.
"""

import warnings

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from gpu_kmeans.backends import backend_for
from gpu_kmeans.backends.reference import sq_distances
from gpu_kmeans.errors import InputError, OptionError
from gpu_kmeans.lloyd import kmeans

__all__ = ["KMeans"]

LEVELS = 256  # integers in this range are counted as colours are, by Morton code


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """K-means with scikit-learn's interface and stopping rule.

    Args:
        n_clusters: How many clusters, >= 1.
        init: "k-means++", "random", or the first centroids (n_clusters, n_features).
        n_init: Starts, the lowest inertia being kept; "auto" is 1, but 10 for random starts.
        max_iter: The most iterations of one start.
        tol: Relative tolerance on the centroids' shift; see `gpu_kmeans.kmeans`.
        random_state: As in scikit-learn; an integer gives the same bits each time.
        device: Where to compute: "cpu", "cuda", "auto" for CUDA where there is one; None leaves
            tensors where they are and numpy arrays on the CPU.

    Attributes:
        cluster_centers_: (n_clusters, n_features), of the type of X.
        labels_: (n_samples,) int32.
        inertia_: Weighted sum of squared distances to the centres (WCSS).
        n_iter_: Iterations of the best start.
        n_features_in_: Features seen by fit.

    Example:
        >>> KMeans(n_clusters=2, random_state=0).fit([[0], [1], [9], [10]]).inertia_
        1.0
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: object = "k-means++",
        n_init: str | int = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: int | np.random.RandomState | None = None,
        device: str | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.device = device

    def fit(self, X: object, y: object = None, sample_weight: object = None) -> "KMeans":  # noqa: ARG002
        """Find the clusters of the rows of X.

        Args:
            X: (n_samples, n_features) numbers; integers are taken as float64.
            y: Not used.
            sample_weight: (n_samples,) how much each row counts; None for alike.

        Returns:
            The estimator, fitted.

        Raises:
            ValueError: X has NaN, infinity or too few rows, or a parameter is out of range.
        """
        table = validate_data(self, X, dtype=[np.float64, np.float32, np.uint8, np.int64])
        if len(table) < self.n_clusters:
            raise InputError(f"n_samples={len(table)} should be >= n_clusters={self.n_clusters}")
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, table)
        rows, masses, inverse = _distinct_integers(table, weights)
        result = kmeans(
            self._placed(rows),
            self.n_clusters,
            weights=masses,
            init=self.init if isinstance(self.init, str) else np.asarray(self.init),
            n_init=self._starts(),
            max_iter=self.max_iter,
            tol=self.tol,
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
        )
        labels = _to_numpy(result.labels).astype(np.int32)
        self.labels_ = labels if inverse is None else labels[inverse]
        self.cluster_centers_ = self._repeated(_to_numpy(result.centroids))
        self.inertia_ = result.wcss
        self.n_iter_ = result.n_iter
        self._n_features_out = self.n_clusters
        return self

    def predict(self, X: object) -> np.ndarray:
        """Return the index of the nearest centre of each row, (n_samples,) int32.

        Args:
            X: (n_samples, n_features).

        Returns:
            Labels in [0, n_clusters), exact ties going to the lowest.

        Raises:
            NotFittedError: fit was not called.
            ValueError: X does not fit.
        """
        table = self._checked(X)
        problem_weights = torch.ones(len(table), dtype=torch.float64, device=table.device)
        engine = backend_for(table.device)
        problem = engine.pack([table], [problem_weights], is_integral=False)
        centers = torch.from_numpy(self.cluster_centers_).to(table)
        found = engine.assign_accumulate(problem, centers, (0, len(centers)), labels=True)
        return _to_numpy(found.labels)

    def transform(self, X: object) -> np.ndarray:
        """Return the distances of each row to each centre, (n_samples, n_clusters).

        Args:
            X: (n_samples, n_features).

        Returns:
            Euclidean distances.

        Raises:
            NotFittedError: fit was not called.
            ValueError: X does not fit.
        """
        table = self._checked(X)
        centers = torch.from_numpy(self.cluster_centers_).to(table)
        return _to_numpy(sq_distances(table, centers).sqrt())

    def score(self, X: object, y: object = None, sample_weight: object = None) -> float:  # noqa: ARG002
        """Return the negative WCSS of X against the centres.

        Args:
            X: (n_samples, n_features).
            y: Not used.
            sample_weight: (n_samples,) how much each row counts.

        Returns:
            A number <= 0; higher is better.

        Raises:
            NotFittedError: fit was not called.
            ValueError: X does not fit.
        """
        table = self._checked(X)
        weights = torch.from_numpy(
            np.asarray(_check_sample_weight(sample_weight, table.cpu().numpy()), np.float64)
        ).to(table.device)
        engine = backend_for(table.device)
        problem = engine.pack([table], [weights], is_integral=False)
        centers = torch.from_numpy(self.cluster_centers_).to(table)
        return -float(engine.assign_accumulate(problem, centers, (0, len(centers))).wcss[0])

    def _starts(self) -> int:
        if self.n_init == "auto":
            return 10 if isinstance(self.init, str) and self.init == "random" else 1
        if isinstance(self.n_init, str):
            raise OptionError("n_init", self.n_init, "'auto' or a whole number from 1 up")
        return self.n_init

    def _checked(self, X: object) -> torch.Tensor:
        check_is_fitted(self)
        table = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return self._placed(table)

    def _placed(self, table: np.ndarray) -> torch.Tensor:
        values = torch.from_numpy(np.require(table, requirements=["C", "W"]))
        if self.device is None:
            return values
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return values.to(device)

    def _repeated(self, centers: np.ndarray) -> np.ndarray:
        """Fill up to n_clusters where there are fewer distinct points, as scikit-learn does."""
        if len(centers) == self.n_clusters:
            return centers
        warnings.warn(
            f"Number of distinct clusters ({len(centers)}) found smaller than "
            f"n_clusters ({self.n_clusters}). Possibly due to duplicate points in X.",
            ConvergenceWarning,
            stacklevel=3,
        )
        return np.resize(centers, (self.n_clusters, centers.shape[1]))


def _distinct_integers(
    table: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Count equal rows of small integers once: rows, weights, and each row's distinct one."""
    d = table.shape[1]
    if table.dtype.kind not in "iu" or d > 4 or table.min() < 0 or table.max() >= LEVELS:  # noqa: PLR2004
        return table, weights, None
    pixels = torch.from_numpy(np.ascontiguousarray(table, dtype=np.uint8))
    colors, counts, inverse = backend_for(pixels.device).histogram(pixels)
    rows, index = colors.numpy().astype(np.float64), inverse.numpy()
    if weights is None:
        return rows, counts.numpy(), index
    return rows, np.bincount(index, weights, minlength=len(rows)), index


def _to_numpy(values: torch.Tensor | np.ndarray) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, torch.Tensor) else values
