"""POST /elbow: pictures and points, as JSON and as a plot."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from pictures import decoded


def elbow(client, **request):
    response = client.post("/elbow", **request)
    assert response.status_code == 200, response.text
    return response.json()


def test_the_curve_of_a_picture_has_every_k_and_never_rises(client, photo_png):
    answer = elbow(client, content=photo_png, params={"k_max": 10})

    wcss = [point["wcss"] for point in answer["curve"]]
    assert [point["k"] for point in answer["curve"]] == list(range(1, 11))
    assert wcss == sorted(wcss, reverse=True)
    assert answer["knee"] in {*range(1, 11), None}
    assert answer["method"] == "kneedle"
    assert answer["input"]["media_type"] == "image/png"


def test_psnr_follows_from_wcss(client, photo, photo_png):
    answer = elbow(client, content=photo_png, params={"k_max": 3})

    for point in answer["curve"]:
        mean = point["wcss"] / photo.size
        assert point["psnr_db"] == pytest.approx(10 * np.log10(255**2 / mean))


def test_elbow_and_compress_agree_where_they_meet(client, photo_png):
    curve = elbow(client, content=photo_png, params={"k_max": 24})["curve"]
    compressed = client.post("/compress?k=24", content=photo_png).json()["wcss_curve"]

    by_k = {point["k"]: point["wcss"] for point in curve}
    assert len(compressed) > 16
    for point in compressed:
        assert point["wcss"] == pytest.approx(by_k[point["k"]], rel=1e-9)


def test_space_and_dither_do_not_change_the_curve(client, photo_png):
    plain, changed = (
        client.post("/compress", content=photo_png, params={"k": 8, **parameters}).json()
        for parameters in ({}, {"space": "oklab", "dither": 1})
    )

    assert changed["wcss_curve"] == plain["wcss_curve"]
    assert changed["image"]["data"] != plain["image"]["data"]


def test_an_option_of_single_fits_is_taken_and_said_to_change_nothing(client, photo_png):
    plain, seeded = (
        elbow(client, content=photo_png, params={"k_max": 4, **parameters})
        for parameters in ({}, {"seed": 1, "n_init": 2})
    )

    assert seeded["curve"] == plain["curve"]
    assert seeded["warnings"] == ["no effect on the curve: n_init, seed"]


def test_the_curve_of_points_ends_at_their_number(client):
    points = [[0, 0], [1, 0], [9, 9], [9, 8]]

    answer = elbow(client, json={"points": points})

    spread = ((np.array(points) - np.mean(points, axis=0)) ** 2).sum()
    assert answer["input"] == {"points": 4, "dimensions": 2}
    assert [point["k"] for point in answer["curve"]] == [1, 2, 3, 4]
    assert answer["curve"][0]["wcss"] == pytest.approx(spread)
    assert answer["curve"][-1]["wcss"] == 0
    assert "psnr_db" not in answer["curve"][0]


def test_a_point_of_weight_two_counts_as_two(client):
    weighted = elbow(client, json={"points": [[0], [3], [10]], "weights": [2, 1, 1]})
    repeated = elbow(client, json={"points": [[0], [0], [3], [10]]})

    wcss = [[point["wcss"] for point in answer["curve"]][:3] for answer in (weighted, repeated)]
    assert wcss[0] == pytest.approx(wcss[1])


def test_points_are_taken_whatever_media_type_is_declared(client):
    headers = {"content-type": "application/x-www-form-urlencoded"}

    assert elbow(client, content=b' {"points": [[1], [2]]}', headers=headers)["curve"]


def test_an_svg_plot_is_well_formed_and_names_its_axes(client, photo_png):
    headers = {"accept": "image/svg+xml"}
    response = client.post("/elbow?k_max=5", content=photo_png, headers=headers)

    text = "".join(ET.fromstring(response.content).itertext())  # noqa: S314 - our own drawing
    assert response.headers["content-type"] == "image/svg+xml"
    assert "WCSS" in text
    assert "number of clusters" in text


def test_a_png_plot_is_a_picture(client, photo_png):
    headers = {"accept": "image/png"}
    response = client.post("/elbow?k_max=5", content=photo_png, headers=headers)

    assert response.headers["content-type"] == "image/png"
    assert decoded(response.content).shape == (675, 1050, 3)


def test_a_plot_of_points_is_drawn_too(client):
    body = {"points": [[0.0], [1.0], [5.0]]}
    response = client.post("/elbow", json=body, headers={"accept": "image/svg+xml"})

    assert response.content.startswith(b"<?xml")


def test_getting_the_elbow_is_not_allowed_and_says_how_to_ask(client):
    response = client.get("/elbow")

    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "method-not-allowed"
    assert "curl -F file=@photo.jpg" in response.json()["detail"]
