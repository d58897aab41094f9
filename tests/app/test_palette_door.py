"""POST /palette: the colours in the formats other programs read."""

import pytest
from pictures import encoded, noise


@pytest.fixture(scope="module")
def answer(client, photo_png):
    return client.post("/palette?k=5", content=photo_png).json()


def written(client, photo_png, palette_format):
    response = client.post(f"/palette?k=5&format={palette_format}", content=photo_png)
    assert response.status_code == 200
    assert f'filename="palette.{palette_format}"' in response.headers["content-disposition"]
    return response


def test_the_colours_are_those_of_compress(client, photo_png, answer):
    compressed = client.post("/compress?k=5&space=rgb&dither=0", content=photo_png).json()

    assert answer["palette"] == compressed["palette"]
    assert answer["wcss"] == compressed["wcss"]
    assert "image" not in answer


def test_css_has_a_custom_property_for_each_colour(client, photo_png, answer):
    response = written(client, photo_png, "css")

    lines = [f"  --color-{i}: {e['hex']};" for i, e in enumerate(answer["palette"], start=1)]
    assert response.headers["content-type"] == "text/css; charset=utf-8"
    assert response.text == "\n".join([":root {", *lines, "}", ""])


def test_hex_has_a_colour_a_line(client, photo_png, answer):
    response = written(client, photo_png, "hex")

    assert response.text.split() == [entry["hex"][1:] for entry in answer["palette"]]


def test_gpl_is_what_gimp_reads(client, photo_png, answer):
    lines = written(client, photo_png, "gpl").text.splitlines()

    colors = [line.split()[:3] for line in lines[lines.index("#") + 1 :]]
    assert lines[0] == "GIMP Palette"
    assert [[int(level) for level in color] for color in colors] == [
        entry["rgb"] for entry in answer["palette"]
    ]


def test_act_is_256_triples_the_count_and_no_transparent_entry(client, photo_png, answer):
    table = written(client, photo_png, "act").content

    assert len(table) == 772
    assert [list(table[i : i + 3]) for i in range(0, 15, 3)] == [
        e["rgb"] for e in answer["palette"]
    ]
    assert table[768:] == b"\x00\x05\xff\xff"


def test_alpha_stands_in_css_and_hex(client):
    picture = encoded(noise(6, 6, 4))

    alphas = [
        entry["alpha"] for entry in client.post("/palette?k=4", content=picture).json()["palette"]
    ]
    lines = client.post("/palette?k=4&format=hex", content=picture).text.split()
    assert [int(line[6:8], 16) for line in lines] == alphas
