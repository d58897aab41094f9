"""Ours and the others, each made to do the same: k colours for a picture, without dithering.

What a library wants as input (rows of floats, RGBA bytes, a Pillow image) is prepared beforehand
and not counted, nor is what it takes to look at its answer. `handicap` is what to know before
comparing; each has the settings that served it best where it leaves a choice.
"""

import importlib.util
import io
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

ITERATIONS = 20  # the textbook's max_iter, given to every Lloyd iteration but ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a method found.

    Attributes:
        centroids: (m, 3), before rounding to 8 bits; None where the method has only a palette.
        picture: (h, w, 3) uint8 as the method draws it; None where it gives centroids alone: then
            every pixel is given its nearest rounded one, which no drawing of its own could better.
    """

    centroids: np.ndarray | None = None
    picture: np.ndarray | None = None


class Method:
    """One way to get a palette picture. Only `fit` is counted, not `prepare` and `read`."""

    name: str  # on the command line
    label: str
    package: str  # the distribution whose version is printed
    module: str  # what must be importable
    settings: str
    handicap: str = "none"
    is_slow = False  # a minute at two megapixels: only with --full
    in_own_process = False  # its memory is not ours to see

    def is_available(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def prepare(self, pixels: np.ndarray) -> Any:
        return pixels.reshape(-1, 3).astype(np.float32)

    def fit(self, data: Any, k: int, seed: int) -> Any:
        raise NotImplementedError

    def read(self, answer: Any) -> Outcome:
        return Outcome(centroids=np.asarray(answer, np.float64))


class Quantize(Method):
    name, label = "quantize", "**gpu_kmeans** `quantize`"
    package, module = "gpu-kmeans", "gpu_kmeans"
    settings = "defaults"
    refinement: int | None = None

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        return pixels

    def fit(self, data: np.ndarray, k: int, seed: int) -> Any:
        from gpu_kmeans import quantize

        if self.refinement is None:
            return quantize(data, k, seed=seed)
        return quantize(data, k, seed=seed, refine=self.refinement)

    def read(self, answer: Any) -> Outcome:
        return Outcome(centroids=answer.centroids, picture=answer.to_pixels())


class QuantizeUnrefined(Quantize):
    name, label = "unrefined", "gpu_kmeans `quantize(refine=0)`"
    settings = "one start, Lloyd alone, all distinct colours"
    refinement = 0


class Textbook(Method):
    """The program of a textbook, as it is written: integers in, a picture out."""

    settings = (
        f'`KMeans(k, init="k-means++", n_init=10, max_iter={ITERATIONS}).fit_predict(pixels)`, '
        "then the picture from rounded centroids"
    )

    def estimator(self) -> Any:
        raise NotImplementedError

    def prepare(self, pixels: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
        return pixels.reshape(-1, 3).astype(np.int64), pixels.shape

    def fit(self, data: Any, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rows, shape = data
        model = self.estimator()(
            n_clusters=k, init="k-means++", n_init=10, max_iter=ITERATIONS, random_state=seed
        )
        labels = model.fit_predict(rows)
        colors = model.cluster_centers_.round().astype("uint8")
        return model.cluster_centers_, colors[labels].reshape(shape)

    def read(self, answer: Any) -> Outcome:
        return Outcome(centroids=answer[0], picture=answer[1])


class OurTextbook(Textbook):
    name, label = "kmeans", "gpu_kmeans `KMeans`, textbook program"
    package, module = "gpu-kmeans", "gpu_kmeans"

    def estimator(self) -> Any:
        from gpu_kmeans import KMeans

        return KMeans


class SklearnTextbook(Textbook):
    name, label = "sklearn-textbook", "scikit-learn `KMeans`, textbook program"
    package, module = "scikit-learn", "sklearn"
    handicap = "clusters pixels, of which many are alike; the program as it is written all over"
    is_slow = True

    def estimator(self) -> Any:
        from sklearn.cluster import KMeans

        return KMeans


class SklearnOnce(Method):
    name, label = "sklearn-once", "scikit-learn `KMeans`, one start"
    package, module = "scikit-learn", "sklearn"
    settings = f"n_init=1, max_iter={ITERATIONS}, all pixels, float32"
    handicap = "clusters pixels, of which many are alike"

    def fit(self, data: np.ndarray, k: int, seed: int) -> np.ndarray:
        from sklearn.cluster import KMeans

        model = KMeans(k, n_init=1, max_iter=ITERATIONS, random_state=seed)
        return model.fit(data).cluster_centers_


class SklearnMiniBatch(Method):
    name, label = "sklearn-minibatch", "scikit-learn `MiniBatchKMeans`"
    package, module = "scikit-learn", "sklearn"
    settings = "n_init=3, batches of 1024, all pixels, float32"
    handicap = "meant to be quick rather than low; larger batches took longer for little"

    def fit(self, data: np.ndarray, k: int, seed: int) -> np.ndarray:
        from sklearn.cluster import MiniBatchKMeans

        return MiniBatchKMeans(k, n_init=3, random_state=seed).fit(data).cluster_centers_


class SklearnDistinct(Method):
    name, label = "sklearn-distinct", "scikit-learn `KMeans`, distinct colours"
    package, module = "scikit-learn", "sklearn"
    settings = f"n_init=1, max_iter={ITERATIONS}, colours weighted by their counts, float32"
    handicap = "the textbook's iteration given our first idea; the counting is in its time"
    starts = 1

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        return pixels.reshape(-1, 3)

    def fit(self, data: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.cluster import KMeans

        colors, inverse, counts = count_colors(data)
        model = KMeans(k, n_init=self.starts, max_iter=ITERATIONS, random_state=seed)
        model.fit(colors.astype(np.float32), sample_weight=counts.astype(np.float32))
        return model.cluster_centers_, model.labels_[inverse]

    def read(self, answer: Any) -> Outcome:
        return Outcome(centroids=answer[0])


class SklearnDistinctBest(SklearnDistinct):
    name, label = "sklearn-distinct-10", "scikit-learn `KMeans`, distinct colours, ten starts"
    settings = f"n_init=10, max_iter={ITERATIONS}, colours weighted by their counts, float32"
    starts = 10
    is_slow = True


class Faiss(Method):
    name, label = "faiss", "FAISS `Kmeans`"
    package, module = "faiss-cpu", "faiss"
    settings = f"niter={ITERATIONS}, all pixels, random start (its default), then `index.search`"
    handicap = "clusters pixels, of which many are alike; made for hundreds of dimensions"
    init = "RANDOM"

    def fit(self, data: np.ndarray, k: int, seed: int) -> np.ndarray:
        import faiss

        model = faiss.Kmeans(
            3,
            k,
            niter=ITERATIONS,
            seed=seed + 1,
            min_points_per_centroid=1,
            max_points_per_centroid=len(data),
            init_method=getattr(faiss, f"ClusteringInitMethod_{self.init}"),
        )
        model.train(data)
        model.index.search(data, 1)
        return model.centroids


class FaissPlusPlus(Faiss):
    name, label = "faiss-plusplus", "FAISS `Kmeans`, k-means++"
    settings = f"niter={ITERATIONS}, all pixels, k-means++, then `index.search`"
    init = "KMEANS_PLUS_PLUS"


class OpenCV(Method):
    name, label = "opencv", "OpenCV `cv2.kmeans`"
    package, module = "opencv-python-headless", "cv2"
    settings = f"KMEANS_PP_CENTERS, one attempt, {ITERATIONS} iterations, all pixels"
    handicap = "clusters pixels, of which many are alike; takes no weights"

    def fit(self, data: np.ndarray, k: int, seed: int) -> np.ndarray:
        import cv2

        cv2.setRNGSeed(seed)
        stop = (cv2.TERM_CRITERIA_MAX_ITER, ITERATIONS, 0.0)
        return cv2.kmeans(data, k, None, stop, 1, cv2.KMEANS_PP_CENTERS)[2]


class FastPytorch(Method):
    name, label = "fast-pytorch-kmeans", "fast-pytorch-kmeans"
    package, module = "fast-pytorch-kmeans", "fast_pytorch_kmeans"
    settings = f"max_iter={ITERATIONS}, random start (its default), all pixels, float32"
    handicap = "made for GPUs; holds a pixels x k matrix"
    is_slow = True

    def is_available(self) -> bool:
        return super().is_available() and importlib.util.find_spec("psutil") is not None

    def prepare(self, pixels: np.ndarray) -> Any:
        import torch

        return torch.from_numpy(super().prepare(pixels))

    def fit(self, data: Any, k: int, seed: int) -> np.ndarray:
        import torch
        from fast_pytorch_kmeans import KMeans

        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - it draws from the global generator
        model = KMeans(k, max_iter=ITERATIONS)
        model.fit_predict(data)
        return model.centroids


class Libimagequant(Method):
    name, label = "libimagequant", "libimagequant"
    package, module = "imagequant", "imagequant"
    settings = "default speed, dithering_level=0"
    handicap = "lowers an error weighted for the eye, with gamma, not WCSS"

    def prepare(self, pixels: np.ndarray) -> tuple[bytes, int, int]:
        h, w, _ = pixels.shape
        return Image.fromarray(pixels).convert("RGBA").tobytes(), w, h

    def fit(self, data: Any, k: int, seed: int) -> Any:
        del seed  # it has none
        import imagequant

        rgba, w, h = data
        indices, palette = imagequant.quantize_raw_rgba_bytes(
            rgba, w, h, dithering_level=0.0, max_colors=k
        )
        return indices, palette, (h, w)

    def read(self, answer: Any) -> Outcome:
        indices, palette, shape = answer
        colors = np.array(palette, np.uint8).reshape(-1, 4)[:, :3]
        return Outcome(picture=colors[np.frombuffer(indices, np.uint8)].reshape(*shape, 3))


class Pillow(Method):
    name, label = "pillow", "Pillow `quantize`"
    package, module = "pillow", "PIL"
    settings = "MEDIANCUT (its default), dither=NONE"
    handicap = "one thread; a palette by splitting boxes, not by k-means"
    way = Image.Quantize.MEDIANCUT
    rounds = 0

    def prepare(self, pixels: np.ndarray) -> Image.Image:
        return Image.fromarray(pixels)

    def fit(self, data: Image.Image, k: int, seed: int) -> Image.Image:
        del seed  # it has none
        return data.quantize(k, method=self.way, kmeans=self.rounds, dither=Image.Dither.NONE)

    def read(self, answer: Image.Image) -> Outcome:
        return Outcome(picture=np.asarray(answer.convert("RGB")))


class PillowKMeans(Pillow):
    name, label = "pillow-kmeans", "Pillow `quantize(kmeans=1)`"
    settings = "MEDIANCUT, kmeans=1 (20 changed nothing), dither=NONE"
    handicap = "one thread"
    rounds = 1


class PillowOctree(Pillow):
    name, label = "pillow-octree", "Pillow `quantize`, fast octree"
    settings = "FASTOCTREE, dither=NONE"
    handicap = "one thread; meant to be quick rather than low"
    way = Image.Quantize.FASTOCTREE


class Pngquant(Method):
    name, label = "pngquant", "pngquant"
    package, module = "pngquant", "PIL"
    settings = "`pngquant --nofs k -`, default speed"
    handicap = "its time has reading and writing PNG in it, for it does nothing else"
    in_own_process = True

    def is_available(self) -> bool:
        return shutil.which("pngquant") is not None

    def prepare(self, pixels: np.ndarray) -> bytes:
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "png", compress_level=1)
        return png.getvalue()

    def fit(self, data: bytes, k: int, seed: int) -> bytes:
        del seed  # it has none
        command = [shutil.which("pngquant") or "pngquant", "--nofs", str(max(k, 2)), "-"]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout  # noqa: S603

    def read(self, answer: bytes) -> Outcome:
        with Image.open(io.BytesIO(answer)) as image:
            return Outcome(picture=np.asarray(image.convert("RGB")))


METHODS: dict[str, Method] = {
    each.name: each()
    for each in (
        Quantize,
        QuantizeUnrefined,
        OurTextbook,
        SklearnTextbook,
        SklearnOnce,
        SklearnMiniBatch,
        SklearnDistinct,
        SklearnDistinctBest,
        Faiss,
        FaissPlusPlus,
        OpenCV,
        FastPytorch,
        Libimagequant,
        Pillow,
        PillowKMeans,
        PillowOctree,
        Pngquant,
    )
}


def count_colors(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct rows of (n, 3) uint8, each row's number among them, and their counts."""
    r, g, b = rows.T.astype(np.int32)
    codes, inverse, counts = np.unique(
        r << 16 | g << 8 | b, return_inverse=True, return_counts=True
    )
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1), inverse, counts
