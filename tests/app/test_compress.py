"""POST /compress: what it answers is true of the picture it returns."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pictures import decoded, encoded, noise
from PIL import Image

from app import service
from app.engine import Engine
from app.jobs import QuantizeJob
from app.main import create_app
from app.settings import Settings

PATIENCE_S = 60  # how long a test that would otherwise hang waits before it fails


def compress(client, picture, **parameters):
    response = client.post("/compress", content=picture, params=parameters)
    assert response.status_code == 200, response.text
    return response.json()


def premultiplied(pixels):
    """What alpha lets through of each colour, and alpha itself, 0..255."""
    colors, alpha = pixels[..., :3].astype(float), pixels[..., 3:].astype(float)
    return np.concatenate([colors * alpha / 255, alpha], axis=-1)


@pytest.mark.parametrize("k", [1, 2, 5, 16, 64, 256])
def test_the_answer_is_true_of_the_picture_returned(client, photo, photo_png, k):
    answer = compress(client, photo_png, k=k)

    returned = decoded(answer["image"]["data"])
    colors = {tuple(color) for color in returned.reshape(-1, 3).tolist()}
    difference = (returned.astype(float) - photo) ** 2
    assert len(colors) <= answer["k"] <= k
    assert answer["k"] == len(answer["palette"]) == len(answer["centroids"])
    assert colors <= {tuple(entry["rgb"]) for entry in answer["palette"]}
    assert sum(entry["count"] for entry in answer["palette"]) == photo.shape[0] * photo.shape[1]
    assert answer["wcss"] == pytest.approx(difference.sum(), rel=1e-9)
    assert answer["psnr_db"] == pytest.approx(10 * np.log10(255**2 / difference.mean()))


def test_the_counts_and_shares_are_those_of_the_picture_returned(client, photo_png):
    answer = compress(client, photo_png, k=8)

    pixels = decoded(answer["image"]["data"]).reshape(-1, 3)
    for entry in answer["palette"]:
        count = (pixels == entry["rgb"]).all(axis=1).sum()
        assert entry["count"] == count
        assert entry["share"] == pytest.approx(count / len(pixels))
        assert entry["hex"] == "#{:02x}{:02x}{:02x}".format(*entry["rgb"])


def test_frames_are_dithered_such_that_what_stands_still_has_the_same_entries(client, photo):
    moved = photo.copy()
    moved[:8, :8] = photo[-8:, -8:]
    same = {"palette": "000000,806040,c0c0c0,ffffff", "dither_method": "blue-noise"}

    first, second = (
        decoded(compress(client, encoded(frame), **same)["image"]["data"])
        for frame in (photo, moved)
    )

    still = (photo == moved).all(axis=2)
    assert not still.all()
    np.testing.assert_array_equal(first[still], second[still])
    assert len(np.unique(first.reshape(-1, 3), axis=0)) == 4


def test_the_centroids_round_to_the_palette(client, photo_png):
    answer = compress(client, photo_png, k=16)

    palette = np.array([entry["rgb"] for entry in answer["palette"]])
    assert np.abs(np.array(answer["centroids"]) - palette).max() <= 0.5 + 1e-6


def test_the_picture_is_described(client, photo, photo_png):
    answer = compress(client, photo_png, k=16)

    height, width, _ = photo.shape
    n_colors = len(np.unique(photo.reshape(-1, 3), axis=0))
    assert answer["input"] == {
        "width": width,
        "height": height,
        "bytes": len(photo_png),
        "media_type": "image/png",
        "unique_colors": n_colors,
    }
    assert (answer["image"]["width"], answer["image"]["height"]) == (width, height)
    assert answer["image"]["media_type"] == "image/png"
    assert set(answer["timing_ms"]) == {"queue", "decode", "kmeans", "encode"}
    assert set(answer["engine"]) == {
        *("device", "backend", "n_iter", "converged", "seed", "version"),
    }
    assert answer["k_reason"] == "asked"


def test_the_curve_never_rises_and_ends_at_k(client, photo_png):
    curve = compress(client, photo_png, k=40)["wcss_curve"]

    wcss = [point["wcss"] for point in curve]
    assert wcss == sorted(wcss, reverse=True)
    assert [point["k"] for point in curve][:16] == list(range(1, 17))
    assert curve[-1]["k"] == 40


def test_the_curve_begins_at_the_spread_about_the_mean(client, photo, photo_png):
    curve = compress(client, photo_png, k=2)["wcss_curve"]

    pixels = photo.reshape(-1, 3).astype(float)
    assert curve[0]["wcss"] == pytest.approx(((pixels - pixels.mean(axis=0)) ** 2).sum())


def test_no_curve_is_computed_where_none_is_wanted(client, photo_png):
    assert compress(client, photo_png, k=8, curve="false")["wcss_curve"] is None


def test_elbow_takes_the_knee_of_the_curve(client, photo_png):
    answer = compress(client, photo_png, k="elbow", k_max=12)

    knee = client.post("/elbow?k_max=12", content=photo_png).json()["knee"]
    assert answer["k_reason"] == "elbow"
    assert answer["k"] == knee


def test_auto_reaches_the_quality_asked_for(client, photo_png):
    answer = compress(client, photo_png, k="auto", min_psnr=25)

    assert answer["k_reason"] == "min_psnr"
    assert answer["psnr_db"] >= 25


def test_a_picture_with_fewer_colours_than_k_keeps_its_own(client):
    four = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]], np.uint8)

    answer = compress(client, encoded(four), k=64)

    assert (decoded(answer["image"]["data"]) == four).all()
    assert (answer["k"], answer["wcss"], answer["psnr_db"]) == (4, 0, None)
    assert answer["k_reason"] == "distinct colors"
    assert answer["warnings"]


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((1, 1, 3), 7, np.uint8),
        np.full((5, 9, 3), 200, np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.arange(64, dtype=np.uint8).reshape(8, 8),
        noise(1, 300),
        noise(6, 6, 4),
    ],
    ids=["1x1", "one colour", "all transparent", "grey", "one row", "alpha"],
)
def test_an_odd_picture_works(client, pixels):
    answer = compress(client, encoded(pixels), k=4)

    height, width = pixels.shape[:2]
    assert (answer["image"]["width"], answer["image"]["height"]) == (width, height)
    assert 1 <= answer["k"] <= 4
    assert sum(entry["count"] for entry in answer["palette"]) == height * width


def test_alpha_is_kept_and_counts_in_the_error(client):
    pixels = noise(12, 12, 4)
    pixels[:3] = 0  # transparent at the top

    answer = compress(client, encoded(pixels), k=16)

    returned = decoded(answer["image"]["data"], "RGBA")
    assert (returned[:3, :, 3] == 0).all()
    assert all("alpha" in entry for entry in answer["palette"])
    assert all(len(centroid) == 4 for centroid in answer["centroids"])
    before, after = (premultiplied(each) for each in (pixels, returned))
    assert answer["wcss"] == pytest.approx(((before - after) ** 2).sum())


def test_an_opaque_palette_speaks_of_no_alpha(client, photo_png):
    answer = compress(client, photo_png, k=3)

    assert all("alpha" not in entry for entry in answer["palette"])
    assert all(len(centroid) == 3 for centroid in answer["centroids"])


def test_a_palette_of_ones_own_is_used_as_it_is(client, photo_png):
    answer = compress(client, photo_png, palette="#000000,ffffff")

    colors = {tuple(color) for color in decoded(answer["image"]["data"]).reshape(-1, 3).tolist()}
    assert colors == {(0, 0, 0), (255, 255, 255)}


@pytest.mark.parametrize("palette", ["000000ff,ffffff", "00000080,ffffff"])
def test_a_palette_with_alpha_fits_a_picture_with_alpha(client, palette):
    answer = compress(client, encoded(noise(9, 9, 4)), palette=palette)

    alphas = {entry["alpha"] for entry in answer["palette"]}
    assert {int(palette[6:8], 16), 255} <= alphas


def test_opaque_palette_entries_may_say_so(client, photo_png):
    plain, opaque = (
        compress(client, photo_png, palette=palette)
        for palette in ("000000,ffffff", "000000ff,ffffff")
    )

    assert plain["image"] == opaque["image"]


def test_a_transparent_palette_entry_does_not_fit_an_opaque_picture(client, photo_png):
    response = client.post("/compress?palette=00000080,ffffff", content=photo_png)

    assert response.status_code == 422
    assert (response.json()["code"], response.json()["parameter"]) == ("bad-parameter", "palette")


def test_the_same_request_gives_the_same_bytes(client, photo_png):
    first, second = (compress(client, photo_png, k=24, seed=5) for _ in range(2))

    assert first["image"]["data"] == second["image"]["data"]
    assert first["centroids"] == second["centroids"]


def test_an_animation_says_that_its_first_frame_was_used(client):
    first, second = (Image.fromarray(noise(8, 8, seed=seed)) for seed in (0, 1))
    animated = encoded(first, "GIF", save_all=True, append_images=[second])

    assert any("animated" in warning for warning in compress(client, animated, k=4)["warnings"])


def test_the_reference_backend_gives_the_same_bits(client, photo_png):
    with TestClient(create_app(Settings(backend="reference"))) as reference:
        slow, fast = (compress(each, photo_png, k=12) for each in (reference, client))

    assert slow["engine"]["backend"] == "reference"
    for member in ("image", "centroids", "palette", "wcss", "wcss_curve"):
        assert slow[member] == fast[member]


@pytest.mark.parametrize("field", ["file", "image"])
def test_a_form_field_brings_the_picture_and_other_fields_the_parameters(client, photo_png, field):
    response = client.post("/compress", files={field: ("../x.txt", photo_png)}, data={"k": "3"})

    assert response.json()["k"] == 3


@pytest.mark.parametrize(
    "declared", ["application/x-www-form-urlencoded", "text/plain", "image/gif", "nonsense"]
)
def test_a_declared_media_type_is_not_believed(client, photo_png, declared):
    headers = {"content-type": declared}
    response = client.post("/compress?k=3", content=photo_png, headers=headers)

    assert response.json()["input"]["media_type"] == "image/png"


@pytest.mark.parametrize("accept", ["image/png", "image/*", "image/avif,image/webp,*/*;q=0.8"])
def test_an_image_type_that_outranks_json_brings_the_picture_itself(client, photo_png, accept):
    response = client.post("/compress?k=6", content=photo_png, headers={"accept": accept})

    answer = compress(client, photo_png, k=6)
    assert response.headers["content-type"] == "image/png"
    assert (decoded(response.content) == decoded(answer["image"]["data"])).all()
    assert response.headers["x-k"] == "6"
    assert float(response.headers["x-wcss"]) == answer["wcss"]
    assert float(response.headers["x-psnr"]) == pytest.approx(answer["psnr_db"], abs=1e-3)


def test_health_answers_while_a_picture_is_compressed(photo_png):
    """The fit is held in the middle until health has answered; on the event loop, nothing could."""
    engine = Engine()
    halfway, answered = threading.Event(), threading.Event()

    async def held(job):
        def hold(_share):
            halfway.set()
            assert answered.wait(PATIENCE_S)

        return await engine.submit(
            QuantizeJob(pixels=job.pixels, options=job.options, on_progress=hold)
        )

    with TestClient(create_app(Settings(), held)) as client, ThreadPoolExecutor() as pool:
        running = pool.submit(client.post, "/compress?k=16", content=photo_png)
        assert halfway.wait(PATIENCE_S)
        health = client.get("/healthz")
        is_still_running = not running.done()
        answered.set()

        assert health.status_code == 200
        assert is_still_running
        assert running.result().status_code == 200
    engine.close()


def test_encoding_leaves_the_event_loop_alone(photo_png, monkeypatch):
    engine = Engine()
    threads = {}

    async def computed(job):
        threads["loop"] = threading.get_ident()
        return await engine.submit(job)

    def noted(name, step):
        def run(*arguments):
            threads[name] = threading.get_ident()
            return step(*arguments)

        return run

    monkeypatch.setattr(service, "deliver", noted("deliver", service.deliver))
    with TestClient(create_app(Settings(), computed)) as client:
        assert client.post("/compress?k=4", content=photo_png).status_code == 200
    engine.close()

    assert threads["loop"] != threads["deliver"]
