"""What is written reads back as it was, in each format, at each effort; originals are kept."""

import base64
import io

import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from pictures import decoded, encoded, noise
from PIL import Image
from servers import wait_until

from app.cli import main
from app.encoders import FORMATS, encode
from app.main import create_app
from app.palette_png import write_png
from app.settings import Settings
from app.shrinking import UnwantedError, run

EFFORTS = [0, 1, 2, 6, 7, 9]


@pytest.fixture(scope="module")
def stripes():
    """Indices and a palette of 20 colours, one of them fully transparent."""
    palette = noise(20, 1, 4)[:, 0]
    palette[:, 3] = np.where(np.arange(20) == 3, 0, 255)
    palette[3] = 0
    return np.add.outer(np.arange(40), np.arange(60) // 7).astype(np.uint8) % 20, palette


def compress(client, picture, **parameters):
    response = client.post("/compress", content=picture, params=parameters)
    assert response.status_code == 200, response.text
    return response.json()


def few_colors(k=5):
    """Pixels of k colours, among them no grey."""
    return noise(k, 1)[:, 0][np.add.outer(np.arange(9), np.arange(13)) % k]


def as_palette_file(pixels, picture_format, **options):
    return encoded(
        Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE),
        picture_format,
        **options,
    )


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("image_format", FORMATS)
def test_a_picture_reads_back_as_it_was(stripes, image_format, effort):
    indices, palette = stripes

    file = encode(indices, palette, image_format, effort=effort)

    seen, wanted = decoded(file, "RGBA"), palette[indices]
    visible = wanted[..., 3] > 0
    np.testing.assert_array_equal(seen[..., 3], wanted[..., 3])
    np.testing.assert_array_equal(seen[visible], wanted[visible])


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_png_stays_a_palette_picture_of_the_smallest_depth(effort):
    greys = np.repeat(np.array([[0], [85], [170]], np.uint8), 3, axis=1)

    file = encode(np.arange(12, dtype=np.uint8).reshape(3, 4) % 3, greys, effort=effort)

    assert (file[24], file[25]) == (2, 3)  # PNG, IHDR: bit depth, colour type


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 256])
@pytest.mark.parametrize("width", [1, 2, 7, 8, 9, 33])
@pytest.mark.parametrize("channels", [3, 4])
def test_rows_are_packed_at_every_depth_and_width(size, width, channels):
    palette = noise(size, 1, channels)[:, 0]
    indices = (np.arange(5 * width) * 31 % size).astype(np.uint8).reshape(5, width)
    strided = np.repeat(indices, 2, axis=1)[:, ::2]

    file = write_png(strided, palette, 6)

    image = Image.open(io.BytesIO(file))
    image.verify()  # that the checks of all chunks are right
    mode = "RGBA" if channels == 4 else "RGB"
    np.testing.assert_array_equal(decoded(file, mode), palette[indices])
    assert file[24] == next(depth for depth in (1, 2, 4, 8) if size <= 2**depth)


@pytest.mark.parametrize("effort", [0, 1])
def test_the_quick_efforts_start_no_process(monkeypatch, stripes, effort):
    monkeypatch.setattr("app.png.run", None)

    assert encode(*stripes, effort=effort)


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_palette_keeps_its_order_where_that_is_asked_for(stripes, effort):
    indices, palette = stripes
    mirrored = palette[::-1, :3]

    file = encode(indices, mirrored, effort=effort, keep_order=True)

    with Image.open(io.BytesIO(file)) as image:
        assert np.array_equal(np.reshape(image.getpalette(), (-1, 3)), mirrored)


def test_more_effort_makes_a_photograph_no_larger(client, photo_png):
    sizes = [compress(client, photo_png, k=64, effort=e)["image"]["bytes"] for e in (0, 1, 2, 4)]

    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("effort", [2, 6])
def test_the_order_of_the_palette_costs_no_bytes(effort):
    ramp = np.add.outer(np.arange(200), np.arange(300) * 3 % 7).astype(np.uint8) // 2
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    places = np.random.default_rng(0).permutation(256)

    file = encode(places[ramp].astype(np.uint8), greys[places.argsort()], effort=effort)

    assert len(file) < 1.05 * len(encode(ramp, greys, effort=effort))
    np.testing.assert_array_equal(decoded(file), greys[ramp])


@pytest.mark.parametrize("effort", [2, 6])
def test_alpha_of_a_png_ends_with_what_is_not_opaque(effort):
    waves = np.sin(np.arange(300) / 37)[:, None] + np.cos(np.arange(200) / 23)
    places = np.random.default_rng(0).permutation(200)  # so that it is the filters' order that pays
    palette = noise(200, 1, 4)[:, 0]
    palette[:, 3] = np.where(np.arange(200) == 150, 0, 255)

    file = encode(places[((waves + 2) * 49.9).astype(int)].astype(np.uint8), palette, effort=effort)

    chunk = file.index(b"tRNS")
    assert file[chunk - 4 : chunk + 5] == b"\0\0\0\1tRNS\0"


@pytest.mark.parametrize("image_format", FORMATS)
def test_each_format_is_answered_as_itself(client, photo_png, image_format):
    plain, other = (compress(client, photo_png, k=9, format=name) for name in ("png", image_format))

    assert other["image"]["media_type"] == f"image/{image_format}"
    assert other["wcss"] == plain["wcss"]
    colors = decoded(other["image"]["data"])
    np.testing.assert_array_equal(colors, decoded(plain["image"]["data"]))


def test_an_image_answer_is_of_the_asked_format(client, photo_png):
    headers = {"accept": "image/*"}
    response = client.post("/compress?k=9&format=webp", content=photo_png, headers=headers)

    assert response.headers["content-type"] == "image/webp"
    assert response.content[8:12] == b"WEBP"


def test_a_gif_says_what_became_of_half_transparency(client):
    pixels = noise(8, 8, 4)

    answer = compress(client, encoded(pixels), k=256, format="gif")

    returned = decoded(answer["image"]["data"], "RGBA")
    assert any("GIF" in warning for warning in answer["warnings"])
    assert set(np.unique(returned[..., 3])) == {0, 255}
    before, after = (
        np.dstack([p[..., :3] * (p[..., 3:] / 255.0), p[..., 3:]]) for p in (pixels, returned)
    )
    assert answer["wcss"] == pytest.approx(((before - after) ** 2).sum())


@pytest.mark.parametrize("image_format", ["png", "gif"])
def test_a_palette_file_within_k_passes_through_untouched(client, image_format):
    file = as_palette_file(few_colors(), image_format.upper())

    answer = compress(client, file, k=5, format=image_format)

    assert answer["kept_original"]
    assert (answer["k"], answer["wcss"]) == (5, 0)
    assert (
        client.post(
            f"/compress?k=5&format={image_format}", content=file, headers={"accept": "image/*"}
        ).content
        == file
    )


@pytest.mark.parametrize(
    ("file", "parameters"),
    [
        (as_palette_file(few_colors(), "PNG"), {"k": 4}),
        (as_palette_file(few_colors(), "PNG"), {"k": 5, "format": "gif"}),
        (as_palette_file(few_colors(), "PNG"), {"k": 5, "palette": "000000,ffffff"}),
        (encoded(few_colors()), {"k": 5}),
        (
            as_palette_file(
                few_colors(),
                "PNG",
                exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
            ),
            {"k": 5},
        ),
    ],
    ids=["more colours", "another format", "another palette", "no palette", "turned"],
)
def test_any_other_file_is_written_anew(client, file, parameters):
    assert not compress(client, file, **parameters)["kept_original"]


def test_a_larger_file_is_said_to_be_larger(client, photo):
    photo_jpeg = encoded(photo, "JPEG", quality=20)

    answer = compress(client, photo_jpeg, k=256)

    assert answer["image"]["bytes"] > answer["input"]["bytes"]
    assert any("bytes came" in warning for warning in answer["warnings"])


def test_the_original_comes_back_rather_than_a_larger_file(client, photo):
    photo_jpeg = encoded(photo, "JPEG", quality=20)

    answer = compress(client, photo_jpeg, k=256, skip_if_larger="true")

    assert answer["kept_original"]
    assert (answer["wcss"], answer["psnr_db"]) == (0, None)
    assert answer["image"]["media_type"] == "image/jpeg"
    assert decoded(answer["image"]["data"]).tolist() == decoded(photo_jpeg).tolist()
    assert any("original is kept" in warning for warning in answer["warnings"])


def test_a_smaller_file_replaces_the_original(client, photo_png):
    assert not compress(client, photo_png, k=4, skip_if_larger="true")["kept_original"]


@pytest.mark.parametrize(
    ("name", "begins"), [("a.webp", b"RIFF"), ("a.gif", b"GIF8"), ("a", b"\x89P")]
)
def test_the_command_writes_what_the_name_ends_in(photo_png, tmp_path, name, begins):
    arguments = ["compress", "-", "-o", str(tmp_path / name), "-k", "4"]

    result = CliRunner().invoke(main, arguments, input=photo_png)

    assert result.exit_code == 0, result.output
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_the_command_writes_no_png_by_another_name(photo_png, tmp_path):
    arguments = ["compress", "-", "-o", str(tmp_path / "a.jpg"), "-k", "4"]

    refused = CliRunner().invoke(main, arguments, input=photo_png)

    assert refused.exit_code == 2
    assert "png, webp or gif" in refused.stderr
    assert not (tmp_path / "a.jpg").exists()
    assert CliRunner().invoke(main, [*arguments, "--format", "png"], input=photo_png).exit_code == 0


def test_the_command_tries_harder_than_the_server(client, photo_png, tmp_path):
    arguments = ["compress", "-", "-o", str(tmp_path / "a.png"), "-k", "64"]

    CliRunner().invoke(main, arguments, input=photo_png)

    assert len((tmp_path / "a.png").read_bytes()) < compress(client, photo_png)["image"]["bytes"]


def test_reserved_colours_lead_the_palette_of_answer_and_file(client, photo_png):
    answer = compress(client, photo_png, k=8, reserve="#ff0000,00ff00", effort=2)

    assert [entry["hex"] for entry in answer["palette"]][:2] == ["#ff0000", "#00ff00"]
    with Image.open(io.BytesIO(base64.b64decode(answer["image"]["data"]))) as image:
        assert image.getpalette()[:6] == [255, 0, 0, 0, 255, 0]


def test_more_reserved_colours_than_k_are_refused(client, photo_png):
    response = client.post("/compress?k=1&reserve=ff0000,00ff00", content=photo_png)

    assert (response.status_code, response.json()["parameter"]) == (422, "reserve")


def encoders_at_work():
    return [each for each in psutil.Process().children() if "shrink" in command_of(each)]


def command_of(process):
    try:
        return str(process.cmdline())
    except psutil.NoSuchProcess:  # it ends just now, or has and is yet to be waited for
        return ""


@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_what_takes_long_ends_once_it_is_not_wanted(image_format):
    asked = []

    with pytest.raises(UnwantedError):
        encode(
            noise(900, 900, 1)[..., 0],
            noise(256, 1)[:, 0],
            image_format,
            effort=9,
            is_wanted=lambda: asked.append(0) or len(asked) < 3,
        )

    assert len(asked) == 3
    assert not encoders_at_work()


def test_a_large_webp_is_the_picture_as_a_small_one_is():
    indices, palette = noise(800, 800, 1)[..., 0] & 15, noise(16, 1, 4)[:, 0]

    file = encode(indices, palette, "webp")

    assert np.array_equal(decoded(file, "RGBA"), palette[indices])


def test_an_encoder_past_the_deadline_is_not_waited_for():
    settings = Settings(compute_timeout_s=2)
    slow = encoded(noise(700, 700))
    with TestClient(create_app(settings)) as impatient:
        impatient.post("/palette?k=2", content=encoded(noise(2, 2)))
        late = impatient.post("/compress?k=256&refine=0&curve=false&effort=9", content=slow)

        assert (late.status_code, late.json()["code"]) == (504, "deadline-exceeded")
        wait_until(lambda: not encoders_at_work())


@pytest.mark.parametrize("effort", [0, 1, 2, 6])
@pytest.mark.parametrize("order", ["luminance", "popularity"])
def test_an_order_of_the_palette_is_that_of_answer_and_file(client, photo_png, order, effort):
    answer = compress(client, photo_png, k=12, order=order, effort=effort)

    plain = compress(client, photo_png, k=12)
    entries = answer["palette"]
    if order == "popularity":
        counts = [entry["count"] for entry in entries]
        assert counts == sorted(counts, reverse=True)
    else:
        assert entries == plain["palette"]
    with Image.open(io.BytesIO(base64.b64decode(answer["image"]["data"]))) as image:
        colors = np.reshape(image.getpalette(), (-1, 3)).tolist()
        assert colors == [entry["rgb"] for entry in entries]
    colors = decoded(plain["image"]["data"])
    np.testing.assert_array_equal(decoded(answer["image"]["data"]), colors)


def test_black_and_white_are_kept_by_name(client, photo_png):
    named = compress(client, photo_png, k=8, reserve="black,white")

    assert [entry["hex"] for entry in named["palette"]][:2] == ["#000000", "#ffffff"]
    assert named["image"] == compress(client, photo_png, k=8, reserve="000000,ffffff")["image"]


def test_growth_comes_with_words_on_what_would_be_smaller(client, photo):
    photo_jpeg = encoded(photo, "JPEG", quality=20)

    words = compress(client, photo_jpeg, k=256, dither=1)["warnings"][-1]

    for way in ("fewer colours", "no dithering", "format=webp", "more effort", "skip_if_larger"):
        assert way in words


def test_growth_by_the_usual_dithering_comes_with_words_on_it(client, photo):
    photo_jpeg = encoded(photo, "JPEG", quality=20)

    usual = compress(client, photo_jpeg, k=256)["warnings"][-1]
    thrifty = compress(client, photo_jpeg, k=256, prefer="bytes")["warnings"][-1]

    assert "prefer=bytes, no dithering" in usual
    assert "prefer" not in thrifty
    assert "dithering" not in thrifty


@pytest.mark.parametrize(("image_format", "longest"), [("webp", 16_383), ("gif", 65_535)])
def test_a_picture_too_long_for_a_format_is_refused_with_its_limit(client, image_format, longest):
    fits, too_long = (encoded(noise(1, longest + more)) for more in (0, 1))

    response = client.post(f"/compress?k=4&format={image_format}", content=too_long)

    assert compress(client, fits, k=4, format=image_format)["image"]["width"] == longest
    assert (response.status_code, response.json()["parameter"]) == (422, "format")
    assert f"{longest:,}" in response.json()["allowed"]


def test_no_format_is_advised_that_does_not_take_the_picture(client):
    long_jpeg = encoded(noise(8, 16_384), "JPEG", quality=1)

    words = compress(client, long_jpeg, k=256)["warnings"][-1]

    assert "fewer colours" in words
    assert "webp" not in words


def test_a_webp_within_k_passes_through_untouched(client):
    file = encoded(few_colors(), "WEBP", lossless=True)

    assert compress(client, file, k=5, format="webp")["kept_original"]
    assert not compress(client, file, k=4, format="webp")["kept_original"]
    assert not compress(client, file, k=5, format="png")["kept_original"]


def test_a_palette_file_in_another_order_than_asked_is_written_anew(client):
    file = as_palette_file(few_colors(), "PNG")

    assert not compress(client, file, k=5, order="popularity")["kept_original"]


@pytest.mark.parametrize("effort", EFFORTS)
def test_alpha_takes_a_value_only_for_entries_that_are_not_opaque(effort):
    palette = noise(40, 1, 4)[:, 0]
    palette[:, 3] = np.where(np.arange(40) < 5, np.arange(40) * 40, 255)
    indices = np.add.outer(np.arange(40), np.arange(60) // 7).astype(np.uint8) % 40

    file = encode(indices, palette, effort=effort)

    at = file.index(b"tRNS")
    assert int.from_bytes(file[at - 4 : at]) == 5


def test_a_program_that_starts_slowly_gets_all_of_its_input(tmp_path):
    program = tmp_path / "slow.py"
    program.write_text(
        "import sys, time; time.sleep(0.5); sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"
    )
    content = bytes(range(256)) * (1 << 12)  # a megabyte, more than a pipe holds

    assert run(program, {}, content, lambda: True) == content[::-1]
