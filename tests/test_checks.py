"""What is taken as points, weights and pictures, and what is refused with what words."""

import copy
import pickle

import numpy as np
import pytest
import torch

from gpu_kmeans import (
    GpuKMeansError,
    InputError,
    OptionError,
    ShapeError,
    elbow,
    kmeans,
    quantize,
    quantize_batch,
)

POINTS = np.random.default_rng(0).normal(size=(20, 2))
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)

pytestmark = pytest.mark.usefixtures("unchecked_annotations")

BAD_POINTS = {
    "nan": (np.array([[0.0, 1.0], [np.nan, 1.0]]), InputError, "finite, got nan in row 1"),
    "infinity": (np.array([[0.0], [-np.inf]]), InputError, "finite, got -inf in row 1"),
    "no-rows": (np.zeros((0, 2)), InputError, "no points"),
    "no-columns": (np.zeros((3, 0)), InputError, "no points"),
    "empty-list": ([], ShapeError, "1 dimensions"),
    "one-dimension": (np.zeros(3), ShapeError, r"1 dimensions \(3,\)"),
    "four-dimensions": (np.zeros((1, 1, 1, 1)), ShapeError, "4 dimensions"),
    "ragged": ([[1.0], [1.0, 2.0]], ShapeError, "points .* ragged"),
    "strings": (np.array([["1", "2"]]), ShapeError, "real numbers, got <U1"),
    "list-of-strings": ([["a", "b"]], ShapeError, "real numbers"),
    "objects": (np.array([[None, 1]]), ShapeError, "real numbers, got object"),
    "none": (None, ShapeError, "real numbers"),
    "complex": (POINTS.astype(complex), ShapeError, "real numbers, got complex128"),
    "complex-tensor": (torch.zeros(3, 2, dtype=torch.complex64), ShapeError, "complex64"),
    "sparse-tensor": (torch.eye(3).to_sparse(), ShapeError, "to_dense"),
    "dates": (np.array([["2020-01-01"]], "M8[D]"), ShapeError, "real numbers"),
    "too-large": (np.array([[1e200], [0.0]]), InputError, "at most 1e.140"),
    "too-large-float32": (
        np.array([[1e20], [0]], np.float32),
        InputError,
        r"at most 1e\+14 .* got 1e\+20",
    ),
}


@pytest.mark.parametrize("name", BAD_POINTS)
@pytest.mark.parametrize("function", [kmeans, elbow], ids=lambda f: f.__name__)
def test_points_that_cannot_be_clustered_are_refused(function, name):
    points, error, message = BAD_POINTS[name]

    with pytest.raises(error, match=message):
        function(points, 2)


BAD_WEIGHTS = {
    "negative": (-np.ones(20), InputError, "negative, got -1"),
    "all-zero": (np.zeros(20), InputError, "every weight is 0"),
    "nan": (np.full(20, np.nan), InputError, "weights must be finite"),
    "infinity": (np.full(20, np.inf), InputError, "weights must be finite"),
    "too-few": (np.ones(19), ShapeError, r"\(20,\)"),
    "column": (np.ones((20, 1)), ShapeError, r"\(20,\)"),
    "number": (1.0, ShapeError, r"\(20,\)"),
    "strings": (["a"] * 20, ShapeError, "weights must hold real numbers"),
    "ragged": ([[1], [1, 2]], ShapeError, "weights .* ragged"),
    "too-large": (np.full(20, 1e308), InputError, "weights add up to"),
}


@pytest.mark.parametrize("name", BAD_WEIGHTS)
@pytest.mark.parametrize("function", [kmeans, elbow], ids=lambda f: f.__name__)
def test_weights_that_weigh_nothing_sensible_are_refused(function, name):
    weights, error, message = BAD_WEIGHTS[name]

    with pytest.raises(error, match=message):
        function(POINTS, 2, weights=weights)


BAD_KMEANS_OPTIONS = [
    ("k", 0),
    ("k", -1),
    ("k", 1.5),
    ("k", 2.0),
    ("k", True),
    ("k", "2"),
    ("k", None),
    ("init", "kmeans"),
    ("n_init", 0),
    ("n_init", 1.0),
    ("max_iter", 0),
    ("max_iter", True),
    ("tol", -1e-9),
    ("tol", np.nan),
    ("tol", np.inf),
    ("tol", "small"),
    ("tol", None),
    ("tol", 10**400),
    ("metric", None),
    ("metric", np.array(["euclidean"])),
    ("p", np.array([2.0, 3.0])),
    ("refine", 3),
    ("refine", -1),
    ("seed", -1),
    ("seed", 0.5),
    ("seed", None),
    ("backend", "gpu"),
    ("backend", None),
]


@pytest.mark.parametrize(("name", "value"), BAD_KMEANS_OPTIONS, ids=repr)
def test_kmeans_names_the_option_what_was_got_and_what_is_allowed(name, value):
    with pytest.raises(OptionError) as caught:
        kmeans(POINTS, **{"k": 2, name: value})

    assert (caught.value.name, repr(caught.value.got)) == (name, repr(value))
    assert caught.value.allowed
    assert f"{name}={value!r} is not allowed: {caught.value.allowed}" in str(caught.value)


@pytest.mark.parametrize(
    ("init", "error"),
    [
        (np.zeros((3, 2)), ShapeError),
        (np.zeros((2, 3)), ShapeError),
        (np.zeros(4), ShapeError),
        (np.array([["a", "b"], ["c", "d"]]), ShapeError),
        (None, ShapeError),
        (np.full((2, 2), np.nan), InputError),
        (np.full((2, 2), np.inf), InputError),
        (np.full((2, 2), 1e200), InputError),
    ],
    ids=["k", "d", "flat", "strings", "none", "nan", "infinity", "too-large"],
)
def test_first_centroids_that_do_not_fit_are_refused(init, error):
    with pytest.raises(error, match="init"):
        kmeans(POINTS, 2, init=init)


BAD_ELBOW_OPTIONS = [
    ("k_max", 1),
    ("k_max", 0),
    ("k_max", 2.5),
    ("k_max", True),
    ("k_max", "20"),
    ("ks", []),
    ("ks", 5),
    ("ks", [0, 1]),
    ("ks", [1, 2.5]),
    ("ks", [True]),
    ("backend", "gpu"),
]


@pytest.mark.parametrize(("name", "value"), BAD_ELBOW_OPTIONS, ids=repr)
@pytest.mark.parametrize("points", [POINTS, PIXELS], ids=["points", "picture"])
def test_elbow_names_the_option_and_what_is_allowed(points, name, value):
    with pytest.raises(OptionError, match=f"{name}=.* is not allowed: "):
        elbow(points, **{name: value})


def test_a_picture_takes_no_weights():
    with pytest.raises(OptionError, match="weights"):
        elbow(PIXELS, weights=np.ones(42))


@pytest.mark.parametrize("points", [PIXELS.astype(float), PIXELS[:, :, :2]], ids=["float", "2"])
def test_a_curve_of_three_dimensions_must_be_of_a_picture(points):
    with pytest.raises(ShapeError, match="uint8"):
        elbow(points)


BAD_PIXELS = {
    "float": PIXELS.astype(np.float64),
    "int64": PIXELS.astype(np.int64),
    "bool": PIXELS > 3,
    "grey": PIXELS[:, :, 0],
    "two-channels": PIXELS[:, :, :2],
    "five-channels": np.zeros((2, 2, 5), np.uint8),
    "batch": PIXELS[None],
    "no-rows": PIXELS[:0],
    "no-columns": PIXELS[:, :0],
    "list": PIXELS.tolist(),
    "ragged": [[1], [1, 2]],
    "string": "photo.jpg",
    "bytes": b"\x89PNG",
    "none": None,
    "int16-tensor": torch.zeros(2, 2, 3, dtype=torch.int16),
}


@pytest.mark.parametrize("name", BAD_PIXELS)
def test_what_is_no_picture_is_refused(name):
    for call in (quantize, lambda pixels: quantize_batch([PIXELS, pixels])):
        with pytest.raises(ShapeError, match=r"picture|pixels"):
            call(BAD_PIXELS[name])


BAD_QUANTIZE_OPTIONS = [
    ("k", 0),
    ("k", 257),
    ("k", 1.5),
    ("k", True),
    ("k", "many"),
    ("k", None),
    ("k", [3]),
    ("k", np.array([1, 2])),
    ("k_max", 1),
    ("k_max", 257),
    ("k_max", None),
    ("min_psnr", -1),
    ("min_psnr", "x"),
    ("min_psnr", np.nan),
    ("min_psnr", 10**400),
    ("space", "lab"),
    ("space", None),
    ("space", ["rgb"]),
    ("space", np.array(["rgb", "linear"])),
    ("dither", 2),
    ("dither", -0.1),
    ("dither", True),
    ("dither", "strong"),
    ("dither", None),
    ("dither", np.nan),
    ("dither_method", "bayer"),
    ("dither_method", None),
    ("thrift", np.ones(2)),
    ("curve", "no"),
    ("solid", "no"),
    ("init", "x"),
    ("init", None),
    ("init", np.zeros((2, 3))),
    ("n_init", 0),
    ("max_iter", 0),
    ("tol", -1),
    ("refine", 3),
    ("seed", -1),
    ("backend", "gpu"),
    ("palette", np.zeros((0, 3), np.uint8)),
    ("palette", np.zeros((257, 3), np.uint8)),
]


@pytest.mark.parametrize(
    ("name", "value"), BAD_QUANTIZE_OPTIONS, ids=lambda value: repr(value).replace("\n", "")[:30]
)
def test_quantize_names_the_option_and_what_is_allowed(name, value):
    with pytest.raises(OptionError, match=f"{name}=") as caught:
        quantize(PIXELS, **{"k": 2, name: value})

    assert caught.value.name == name
    assert caught.value.allowed in str(caught.value)


@pytest.mark.parametrize(
    "palette",
    [
        [[0, 0, 0]],
        np.zeros((2, 3)),
        np.zeros((2, 2), np.uint8),
        np.zeros(3, np.uint8),
        np.zeros((1, 2, 3), np.uint8),
        np.zeros((2, 4), np.uint8),
        ["#ffffff"],
    ],
    ids=["list", "float", "2", "flat", "picture", "alpha-for-opaque", "hex"],
)
def test_a_palette_of_another_shape_is_refused(palette):
    with pytest.raises(ShapeError, match="palette"):
        quantize(PIXELS, palette=palette)


def test_an_error_from_another_process_says_the_same():
    error = OptionError("p", 0, "from 1 up", "another metric has no p")

    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own bytes


def test_every_error_is_of_one_family():
    assert issubclass(InputError, GpuKMeansError)
    assert issubclass(InputError, ValueError)
    assert issubclass(ShapeError, InputError)
    assert issubclass(OptionError, InputError)


# What is taken


TAKEN = {
    "read-only": lambda p: np.frombuffer(p.tobytes(), p.dtype).reshape(p.shape),
    "fortran": np.asfortranarray,
    "every-other-row": lambda p: np.repeat(p, 2, axis=0)[::2],
    "negative-strides": lambda p: np.ascontiguousarray(p[::-1, ::-1])[::-1, ::-1],
    "big-endian": lambda p: p.astype(p.dtype.newbyteorder(">")),
    "column-of-a-table": lambda p: np.pad(p, [(0, 0)] * (p.ndim - 1) + [(1, 1)])[..., 1:-1],
}


@pytest.mark.parametrize("form", TAKEN)
def test_points_in_any_layout_give_the_same_bits(form):
    points = TAKEN[form](POINTS)
    weights = TAKEN[form](np.ones((20, 1)))[:, 0]

    fit = kmeans(points, 3, weights=weights)

    np.testing.assert_array_equal(fit.centroids, kmeans(POINTS, 3).centroids)
    assert elbow(points, 4) == elbow(POINTS, 4)


@pytest.mark.parametrize("form", TAKEN)
def test_pixels_in_any_layout_give_the_same_bits(form):
    image = quantize(TAKEN[form](PIXELS), 5, palette=TAKEN[form](PIXELS[0]))

    expected = quantize(PIXELS, 5, palette=PIXELS[0])
    np.testing.assert_array_equal(image.indices, expected.indices)
    np.testing.assert_array_equal(
        quantize(TAKEN[form](PIXELS), 5).palette, quantize(PIXELS, 5).palette
    )


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.float16, np.float64),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.longdouble, np.float64),
        (np.dtype(">f4"), np.float32),
        (np.uint8, np.float64),
        (np.uint16, np.float64),
        (np.int32, np.float64),
        (np.uint64, np.float64),
        (np.bool_, np.float64),
    ],
    ids=str,
)
def test_numbers_of_any_kind_are_taken_and_never_narrowed(dtype, expected):
    fit = kmeans((POINTS > 0).astype(dtype), 2)

    assert fit.centroids.dtype == expected
    assert fit.wcss > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32, torch.bool])
def test_tensors_of_any_kind_are_taken(dtype):
    fit = kmeans(torch.from_numpy(POINTS > 0).to(dtype), 2)

    assert fit.centroids.dtype == (torch.float32 if dtype.is_floating_point else torch.float64)


def test_numbers_beyond_int64_stay_what_they_are():
    fit = kmeans(np.array([[0], [2**64 - 1]], np.uint64), 2)

    assert fit.centroids.tolist() == [[0.0], [2.0**64]]


def test_lists_are_taken_as_arrays():
    fit = kmeans([[0, 0], [0, 1], [9, 9]], 2, weights=[1, 1, 2])

    assert isinstance(fit.centroids, np.ndarray)
    assert sorted(fit.centroids.tolist()) == [[0, 0.5], [9, 9]]


def test_numpy_scalars_are_numbers_too():
    image = quantize(PIXELS, np.int64(4), dither=np.float32(0.5), seed=np.uint8(1))

    assert image.k == 4


@pytest.mark.parametrize("form", ["plain", "transposed", "strided", "with-gradient"])
def test_tensors_in_any_layout_give_tensors(form):
    rows = torch.from_numpy(POINTS)
    points = {
        "plain": rows,
        "transposed": rows.T.contiguous().T,
        "strided": rows.repeat_interleave(2, 0)[::2],
        "with-gradient": rows.clone().requires_grad_(),
    }[form]

    fit = kmeans(points, 3)

    assert isinstance(fit.centroids, torch.Tensor)
    assert isinstance(fit.labels, torch.Tensor)
    assert not fit.centroids.requires_grad
    np.testing.assert_array_equal(fit.centroids.numpy(), kmeans(POINTS, 3).centroids)


def test_a_picture_as_a_tensor_gives_tensors_and_as_an_array_arrays(device):
    tensor = torch.from_numpy(PIXELS).to(device).permute(1, 0, 2)

    images = quantize_batch(
        [tensor, PIXELS.transpose(1, 0, 2)] if device.type == "cpu" else [tensor], 5
    )

    for name in ("indices", "palette", "counts", "centroids"):
        assert getattr(images[0], name).device.type == device.type
        if len(images) > 1:
            assert isinstance(getattr(images[1], name), np.ndarray)
            np.testing.assert_array_equal(
                getattr(images[0], name).numpy(), getattr(images[1], name)
            )
    assert images[0].to_pixels().dtype == torch.uint8
    assert images[0].indices.dtype == torch.uint8
    assert images[0].counts.dtype == torch.int64


def test_pictures_come_in_anything_that_can_be_gone_through():
    expected = quantize(PIXELS, 5).indices

    for images in (np.stack([PIXELS] * 2), (image for image in [PIXELS] * 2)):
        for image in quantize_batch(images, 5):
            np.testing.assert_array_equal(image.indices, expected)


@pytest.mark.parametrize("answer", [kmeans(POINTS, 2), quantize(PIXELS, 2)], ids=["fit", "image"])
def test_an_answer_can_be_compared_hashed_copied_and_pickled(answer):
    again = pickle.loads(pickle.dumps(copy.deepcopy(answer)))  # noqa: S301 - our own bytes

    assert again.wcss == answer.wcss
    assert {answer: 1}[answer] == 1
    assert answer != again  # arrays of another answer, and arrays have no single equality


def test_what_comes_in_is_never_changed():
    points, weights, pixels = POINTS.copy(), np.ones(20), PIXELS.copy()
    start = points[:3].copy()

    kmeans(points, 3, weights=weights, init=start)
    quantize(pixels, 4, dither=1.0)

    np.testing.assert_array_equal(points, POINTS)
    np.testing.assert_array_equal(start, POINTS[:3])
    np.testing.assert_array_equal(weights, np.ones(20))
    np.testing.assert_array_equal(pixels, PIXELS)


def test_what_comes_out_shares_no_memory_with_what_came_in():
    start = POINTS[:3].copy()
    fit = kmeans(POINTS, 3, init=start, max_iter=1)

    fit.centroids[:] = 0

    np.testing.assert_array_equal(start, POINTS[:3])


@pytest.mark.parametrize("init", ["random", "k-means++"])
def test_one_weight_may_be_beyond_all_others(init):
    weights = np.r_[1e300, np.full(19, 1e-300)]

    fit = kmeans(POINTS, 3, weights=weights, init=init)

    assert len(fit.centroids) == 3
    assert POINTS[0] in fit.centroids


@pytest.mark.parametrize("scale", [1e-310, 1e-300, 1e30, 1e300])
def test_weights_of_any_size_only_matter_against_each_other(scale):
    weights = np.arange(1, 21) * scale

    fit = kmeans(POINTS, 3, weights=weights, init=POINTS[:3])

    expected = kmeans(POINTS, 3, weights=np.arange(1.0, 21), init=POINTS[:3])
    np.testing.assert_allclose(fit.centroids, expected.centroids, rtol=1e-9)
