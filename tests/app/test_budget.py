"""As many colours as fit into so many bytes: found, said, or refused."""

import asyncio

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pictures import decoded, encoded, noise
from PIL import Image

from app.budget import Budget, Weighed
from app.cli import main


def compress(client, picture, **parameters):
    response = client.post("/compress", content=picture, params=parameters)
    assert response.status_code == 200, response.text
    return response.json()


@given(
    power=st.floats(0.2, 1.5),
    max_bytes=st.integers(1, 100_000),
    effort=st.integers(0, 9),
    most=st.integers(1, 256),
)
def test_what_is_found_fits_and_one_per_cent_more_would_not(power, max_bytes, effort, most):
    def weight(k, effort):
        return int(1000 * k**power * (0.9 if effort > 1 else 1))

    async def write(k, effort):
        return Weighed(made=(k, effort), n_bytes=weight(k, effort))

    found = asyncio.run(Budget(max_bytes=max_bytes, effort=effort, write=write).spend(1, most, 999))

    k, used = found.made
    assert used == effort
    if weight(1, effort) > max_bytes:
        assert k == 1
    else:
        assert found.n_bytes <= max_bytes
        is_close = found.n_bytes >= 0.98 * max_bytes
        assert k == most or is_close or weight(k + max(1, k // 32), effort) > max_bytes


def test_room_that_thorough_writing_leaves_is_given_to_more_colours():
    """Where it saves more of k colours than of those the search began with."""

    async def write(k, effort):
        return Weighed(made=k, n_bytes=int(1000 * k**0.5 * (0.7 if effort > 1 and k < 50 else 1)))

    async def spend(max_bytes):
        return await Budget(max_bytes=max_bytes, effort=6, write=write).spend(1, 256, 10_000)

    found = asyncio.run(spend(4000))

    assert found.made == 32
    assert asyncio.run(write(33, 6)).n_bytes > 4000


@pytest.mark.parametrize("image_format", ["png", "webp", "gif"])
def test_the_file_fits_into_the_bytes_and_nearly_fills_them(client, photo_png, image_format):
    whole = compress(client, photo_png, k=256, format=image_format)["image"]["bytes"]

    answer = compress(client, photo_png, max_bytes=whole // 2, format=image_format)

    assert answer["k_reason"] == "max_bytes"
    assert 0.9 * whole // 2 <= answer["image"]["bytes"] <= whole // 2
    assert answer["wcss_curve"][-1]["k"] == answer["k"]


def test_k_is_the_most_there_may_be_and_is_kept_where_it_fits(client, photo_png):
    answer = compress(client, photo_png, k=16, max_bytes=10**9)

    assert (answer["k"], answer["k_reason"]) == (16, "asked")


def test_too_few_bytes_for_one_colour_are_refused_with_what_it_takes(client, photo_png):
    response = client.post("/compress?max_bytes=20", content=photo_png)

    problem = response.json()
    assert (response.status_code, problem["parameter"]) == (422, "max_bytes")
    least = int(problem["allowed"].split()[0].replace(",", ""))
    assert compress(client, photo_png, max_bytes=least)["k"] >= 1


def test_bytes_win_over_quality_and_that_is_said(client, photo_png):
    wanted = compress(client, photo_png, min_quality=70)

    answer = compress(client, photo_png, min_quality=70, max_bytes=wanted["image"]["bytes"] - 500)

    assert wanted["k_reason"] == "min_quality"
    assert answer["k_reason"] == "max_bytes"
    assert answer["k"] < wanted["k"]
    assert any("min_quality=70 took" in warning for warning in answer["warnings"])


def test_a_quality_that_fits_stays_what_it_was(client, photo_png):
    plain, bounded = (
        compress(client, photo_png, min_quality=50, **more) for more in ({}, {"max_bytes": 10**8})
    )

    assert plain["quality"] >= 50
    for member in ("image", "k", "k_reason", "quality", "wcss_curve"):
        assert plain[member] == bounded[member]


@pytest.mark.parametrize("target", [{"max_bytes": 10**6}, {"k": 7}])
def test_a_picture_of_few_colours_is_warned_of_without_a_k_that_nobody_asked(client, target):
    one, two = (encoded(np.array([[[9] * 3, [n] * 3]], np.uint8)) for n in (9, 8))

    said = [compress(client, picture, **target)["warnings"][0] for picture in (one, two)]

    assert said == [
        f"the picture has only {n}" for n in ("1 distinct colour", "2 distinct colours")
    ]


def test_a_target_without_k_chooses_k(client, photo_png):
    assert compress(client, photo_png, min_psnr=20)["k_reason"] == "min_psnr"
    assert client.post("/palette?min_quality=30", content=photo_png).json()["quality"] >= 30


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("max_bytes=0", "max_bytes"),
        ("max_bytes=1e3", "max_bytes"),
        ("max_bytes=-5", "max_bytes"),
        ("max_bytes=99999999999999999999", "max_bytes"),
        ("min_quality=0", "min_quality"),
        ("min_quality=101", "min_quality"),
        ("min_quality=nan", "min_quality"),
        ("k=elbow&max_bytes=9000", "max_bytes"),
        ("k=elbow&min_quality=50", "min_quality"),
        ("palette=000000,ffffff&max_bytes=9000", "max_bytes"),
        ("palette=000000,ffffff&min_quality=9", "min_quality"),
        ("max_bytes=9000&max_bytes=9001", "max_bytes"),
        ("k=2&reserve=000000,ffffff,ff0000&max_bytes=9000", "reserve"),
    ],
)
def test_a_target_that_contradicts_is_refused(client, photo_png, query, name):
    response = client.post(f"/compress?{query}", content=photo_png)

    assert (response.status_code, response.json()["parameter"]) == (422, name)


def test_reserved_colours_stay_whatever_the_bytes(client, photo_png):
    answer = compress(client, photo_png, reserve="ff0000,00ff00", max_bytes=4000)

    assert [entry["hex"] for entry in answer["palette"]][:2] == ["#ff0000", "#00ff00"]
    assert answer["image"]["bytes"] <= 4000


def test_a_palette_file_that_is_too_long_is_written_anew_with_all_its_colours(client):
    pixels = noise(5, 1)[:, 0][np.add.outer(np.arange(40), np.arange(60)) % 5]
    file = encoded(
        Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE), compress_level=0
    )

    answer = compress(client, file, max_bytes=len(file) - 1, effort=2)

    assert not answer["kept_original"]
    assert (answer["k"], answer["wcss"]) == (5, 0)
    assert (decoded(answer["image"]["data"]) == decoded(file)).all()


def test_the_command_takes_the_same_words(photo_png, tmp_path):
    target = tmp_path / "small.png"
    arguments = ["compress", "-", "-o", str(target), "--max-bytes", "5000", "--effort", "2"]

    result = CliRunner().invoke(main, arguments, input=photo_png)

    assert result.exit_code == 0, result.output
    assert len(target.read_bytes()) <= 5000
    assert "(max_bytes)" in result.stderr
