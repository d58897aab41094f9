"""EXIF and XMP are stripped, or kept as they are true of the picture written."""

import base64
import io

import numpy as np
import pytest
from pictures import decoded, encoded, noise
from PIL import ExifTags, Image

XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>caf\xc3\xa9</x:xmpmeta>"


def compress(client, picture, **parameters):
    response = client.post("/compress", content=picture, params=parameters)
    assert response.status_code == 200, response.text
    return response.json()


def tagged(picture_format="JPEG", orientation=6):
    """A picture with a maker, a place, a colour space of its own, and a thumbnail."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = 65535
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    options = {"exif": exif, "quality": 95}
    if picture_format != "PNG":
        options["xmp"] = XMP
    return encoded(Image.fromarray(noise(8, 12)), picture_format, **options)


@pytest.mark.parametrize(
    "words",
    ['tiff:Orientation="6"', "tiff:Orientation = '6'", "<tiff:Orientation>6</tiff:Orientation>"],
)
@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_an_orientation_that_is_kept_in_xmp_is_upright_too(client, image_format, words):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    xmp = XMP.replace(b"caf", words.encode())
    file = encoded(noise(8, 12), "JPEG", exif=exif, xmp=xmp)

    answer = compress(client, file, metadata="keep", format=image_format)

    with opened(answer) as image:
        assert image.size == (8, 12)
        assert image.info["xmp"] == xmp.replace(b"6", b"1", 1)
        assert image.getexif().get(ExifTags.Base.Orientation, 1) in {1, "1"}  # Pillow reads XMP too


@pytest.mark.parametrize("picture_format", ["JPEG", "WEBP"])
@pytest.mark.parametrize("exif", [None, {ExifTags.Base.Make: "Maker"}])
def test_an_orientation_in_xmp_alone_turns_nothing_as_browsers_have_it(
    client, picture_format, exif
):
    tags = Image.Exif()
    tags.update(exif or {})
    xmp = XMP.replace(b"caf", b'tiff:Orientation="6"')
    file = encoded(noise(8, 12), picture_format, exif=tags, xmp=xmp)

    answer = compress(client, file)

    assert (answer["input"]["width"], answer["input"]["height"]) == (12, 8)


def opened(answer):
    return Image.open(io.BytesIO(base64.b64decode(answer["image"]["data"])))


@pytest.mark.parametrize("image_format", ["png", "webp"])
@pytest.mark.parametrize("effort", [0, 2])
def test_metadata_is_kept_where_that_is_asked_for(client, image_format, effort):
    file = tagged()

    answer = compress(client, file, metadata="keep", format=image_format, effort=effort)

    plain = compress(client, file, format=image_format, effort=effort)
    with opened(answer) as image:
        exif = image.getexif()
        assert exif[ExifTags.Base.Make] == "Maker"
        assert ExifTags.Base.Orientation not in exif
        assert exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] == 1
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
        assert image.info["xmp"] == XMP
        assert image.size == (8, 12)  # upright
    assert (decoded(answer["image"]["data"]) == decoded(plain["image"]["data"])).all()


@pytest.mark.parametrize("picture_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("image_format", ["png", "webp", "gif"])
def test_metadata_is_stripped_unless_asked_for(client, picture_format, image_format):
    answer = compress(client, tagged(picture_format), format=image_format)

    with opened(answer) as image:
        assert not image.getexif()
        assert not {"exif", "xmp", "icc_profile"} & image.info.keys()


def test_a_gif_says_that_it_takes_no_metadata(client):
    answer = compress(client, tagged(), metadata="keep", format="gif")

    assert any("EXIF" in warning for warning in answer["warnings"])


def test_an_original_that_is_kept_says_that_its_metadata_is_in_it(client, photo):
    file = encoded(photo, "JPEG", quality=20, xmp=XMP)

    answer = compress(client, file, skip_if_larger="true", k=256)

    assert answer["kept_original"]
    assert any("metadata" in warning for warning in answer["warnings"])


def test_a_picture_without_metadata_has_none_to_keep(client):
    file = encoded(noise(8, 8))

    plain, kept = (compress(client, file, metadata=word) for word in ("strip", "keep"))

    assert plain["image"] == kept["image"]


def test_metadata_that_cannot_be_written_again_does_not_stop_a_picture(client):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0f\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"

    answer = compress(client, encoded(noise(8, 8), "JPEG", exif=exif), metadata="keep")

    assert answer["k"] > 1


def test_a_word_that_is_no_choice_is_refused(client):
    response = client.post("/compress?metadata=all", content=encoded(noise(4, 4)))

    assert (response.status_code, response.json()["parameter"]) == (422, "metadata")


def test_a_profile_is_not_kept_as_the_pixels_are_srgb_by_then(client):
    image = Image.fromarray(np.zeros((4, 4, 3), np.uint8))
    answer = compress(client, encoded(image, icc_profile=b"x" * 200), metadata="keep")

    with opened(answer) as written:
        assert "icc_profile" not in written.info
