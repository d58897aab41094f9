"""What people take away: the picture, its palette in six formats, many pictures, the command."""

import io
import json
import re
import subprocess
import zipfile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from visit import MINUS, encoded, photo

from app.palettes import write_palette
from app.schemas import PaletteEntry

SMALL = encoded(photo(8), "PNG")


def levels(text):
    return tuple(bytes.fromhex(text.removeprefix("#")))


def read_css(file):
    return re.findall(r"--color-\d+: (#[0-9a-f]{6});", file.decode())


def read_gpl(file):
    rows = [line.split() for line in file.decode().splitlines()[4:]]
    return [f"#{bytes(map(int, row[:3])).hex()}" for row in rows]


def read_act(file):
    assert len(file) == 772
    count = int.from_bytes(file[768:770])
    return [f"#{file[3 * i : 3 * i + 3].hex()}" for i in range(count)]


def read_png(file):
    squares = Image.open(io.BytesIO(file)).convert("RGB").resize((16, 1), Image.Resampling.NEAREST)
    return [f"#{bytes(squares.getpixel((i, 0))).hex()}" for i in range(16)]


READERS = {
    "css": read_css,
    "gpl": read_gpl,
    "act": read_act,
    "png": read_png,
    "json": lambda file: [entry["hex"] for entry in json.loads(file)["palette"]],
    "hex": lambda file: [f"#{line}" for line in file.decode().split()],
}


@pytest.mark.parametrize("format_", READERS)
def test_the_palette_is_exported_as_it_is_shown(visit, format_):
    visit.take_k(16)
    name, file = visit.download(f'[data-format="{format_}"]')

    assert name == f"flower-palette.{format_}"
    assert sorted(READERS[format_](file)) == sorted(visit.colors())


def test_a_palette_with_alpha_is_exported_as_the_server_would_write_it(visit):
    alpha = np.linspace(0, 255, photo(8).shape[1]).astype(np.uint8)
    rows = np.broadcast_to(alpha[None, :, None], (*photo(8).shape[:2], 1))
    visit.bring_one("fading.png", encoded(np.dstack([photo(8), rows])))
    visit.take_k(20)
    _, answer = visit.download('[data-format="json"]')
    entries = [PaletteEntry.model_validate(entry) for entry in json.loads(answer)["palette"]]

    assert len({entry.alpha for entry in entries}) > 4
    for format_ in ("act", "css", "gpl", "hex"):
        _, file = visit.download(f'[data-format="{format_}"]')
        assert file == write_palette(entries, format_), format_
    squares = Image.open(io.BytesIO(visit.download('[data-format="png"]')[1])).convert("RGBA")
    assert squares.size == (16 * 32, 2 * 32)
    at = [squares.getpixel((32 * (i % 16) + 16, 32 * (i // 16) + 16)) for i in range(32)]
    assert at[:20] == [(*entry.rgb, entry.alpha) for entry in entries]
    assert {level for *_, level in at[20:]} == {0}


@pytest.mark.parametrize("format_", ["act", "css", "gpl", "hex", "json"])
def test_a_palette_of_ones_own_is_exported_as_it_is_shown(visit, format_):
    visit.take_k(8)
    visit.page.locator("#color-replace").fill("#ff00ff")
    expect(visit.page.locator('[data-hex="#ff00ff"]')).to_be_visible()
    visit.settle()
    _, file = visit.download(f'[data-format="{format_}"]')

    assert sorted(READERS[format_](file)) == sorted(visit.colors())


@pytest.mark.parametrize("order", ["luminance", "popularity"])
def test_the_palette_comes_in_the_order_that_is_asked_for(visit, order):
    visit.take_k(8)
    visit.page.locator("details summary").click()
    visit.page.select_option("#order", order)
    expect(visit.page.locator("#curl")).to_contain_text(f"order={order}")
    visit.settle()
    picture = visit.picture()

    levels_ = picture.getpalette()[: 3 * 8]
    in_file = [f"#{bytes(levels_[i : i + 3]).hex()}" for i in range(0, 24, 3)]
    assert visit.colors() == in_file
    for format_ in ("hex", "css"):
        _, file = visit.download(f'[data-format="{format_}"]')
        assert READERS[format_](file) == in_file
    if order == "popularity":
        counts = [count for count, _ in sorted(picture.getcolors(), key=lambda pair: pair[1])]
        assert counts == sorted(counts, reverse=True)


def test_metadata_is_stripped_until_it_is_to_be_kept(visit):
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    visit.bring_one("camera.jpg", encoded(photo(8), "JPEG", exif=exif))
    stripped = visit.picture().getexif()
    visit.page.locator("details summary").click()
    visit.page.select_option("#metadata", "keep")
    expect(visit.page.locator("#curl")).to_contain_text("metadata=keep")
    visit.settle()

    assert dict(stripped) == {}
    assert visit.picture().getexif()[0x010F] == "A camera"


def test_a_click_on_a_color_copies_its_hex(open_page):
    visit = open_page(permissions=["clipboard-read", "clipboard-write"])
    swatch = visit.page.locator(".swatch").nth(3)
    swatch.click()
    expect(visit.page.locator("#toast")).to_contain_text("copied")

    copied = visit.page.evaluate("navigator.clipboard.readText()")
    assert copied == swatch.get_attribute("data-hex")
    expect(visit.page.locator("#color-text code")).to_have_text(copied)


def test_the_shares_add_up_to_the_picture(visit):
    visit.take_k(4)
    shares = visit.page.locator(".swatch-share").all_inner_texts()

    assert sum(float(share.removesuffix(" %")) for share in shares) == pytest.approx(100, abs=1.5)


def test_colors_are_sorted_by_lightness(visit):
    visit.take_k(8)
    visit.page.select_option("#sort", "lightness")
    greens = [levels(color)[1] for color in visit.colors()]

    assert greens[0] + 90 < greens[-1]


def test_the_swatches_are_one_stop_and_moved_among_by_arrows(visit):
    visit.take_k(8)
    visit.page.locator(".swatch").first.focus()
    visit.page.keyboard.press("ArrowRight")

    expect(visit.page.locator(".swatch").nth(1)).to_be_focused()
    assert visit.page.locator('.swatch[tabindex="0"]').count() == 1


def test_a_locked_color_stays_when_k_changes(visit):
    visit.take_k(32)
    visit.page.locator(".swatch").nth(20).click()
    locked = visit.page.inner_text("#color-text code")
    visit.page.click("#color-lock")
    expect(visit.page.locator("#color-lock")).to_have_attribute("aria-pressed", "true")
    visit.take_k(8)

    assert locked in visit.colors()
    assert len(visit.colors()) == 8
    assert "locked" in visit.page.locator(f'[data-hex="{locked}"]').get_attribute("aria-label")
    expect(visit.page.locator("#curl")).to_contain_text(f"reserve={locked[1:]}")


def test_a_color_is_let_go_again(visit):
    visit.page.click("#color-lock")
    visit.page.click("#color-lock")
    visit.take_k(8)

    expect(visit.page.locator("#curl")).not_to_contain_text("reserve")


def test_a_replaced_color_is_in_the_picture(visit):
    visit.take_k(8)
    visit.page.select_option("#sort", "lightness")
    old = visit.page.locator(".swatch").first.get_attribute("data-hex")
    visit.page.locator(".swatch").first.click()
    visit.page.locator("#color-replace").fill("#000000")
    expect(visit.page.locator('[data-hex="#000000"]')).to_be_visible()
    visit.settle()

    colors = {color for _, color in visit.picture().convert("RGB").getcolors()}
    assert (0, 0, 0) in colors
    assert levels(old) not in colors
    assert len(colors) == 8


def test_a_removed_color_is_gone_and_k_brings_computed_ones_back(visit):
    visit.take_k(8)
    gone = visit.page.locator(".swatch").first.get_attribute("data-hex")
    visit.page.locator(".swatch").first.click()
    visit.page.click("#color-remove")
    expect(visit.page.locator("#k-out")).to_have_text("7")
    expect(visit.page.locator("#palette-note")).to_contain_text("fixed")
    assert gone not in visit.colors()

    visit.take_k(8)
    assert gone in visit.colors()


def test_fixed_colors_are_typed(visit):
    visit.page.click("summary")
    visit.page.fill("#palette-text", "#000000, ffffff #FF8800")
    visit.page.press("#palette-text", "Tab")
    expect(visit.page.locator("#k-out")).to_have_text("3")

    assert set(visit.colors()) == {"#000000", "#ffffff", "#ff8800"}
    expect(visit.page.locator("#curl")).to_contain_text("palette=000000,ffffff,ff8800")
    visit.page.locator("#thrift").fill("10")
    expect(visit.page.locator("#curl")).to_contain_text("palette=000000,ffffff,ff8800&thrift=1")


def test_a_palette_of_ones_own_that_is_taken_back_leaves_k_as_it_was(visit):
    visit.page.click("summary")
    visit.page.fill("#palette-text", "black, white")
    visit.page.press("#palette-text", "Tab")
    expect(visit.page.locator("#k-out")).to_have_text("2")
    assert visit.page.input_value("#k-number") == "2"

    visit.page.fill("#palette-text", "")
    visit.page.press("#palette-text", "Tab")
    expect(visit.page.locator("#k-out")).to_have_text("64")

    assert visit.page.input_value("#k-number") == "64"
    expect(visit.page.locator("#k-presets input[value='64']")).to_be_checked()


def test_reserved_colors_are_typed_and_locking_adds_to_them(visit):
    visit.page.click("summary")
    visit.page.fill("#reserve-text", "white, #FF8800")
    visit.page.press("#reserve-text", "Tab")
    expect(visit.page.locator("#curl")).to_contain_text("reserve=ffffff,ff8800")
    visit.settle()
    computed = next(color for color in visit.colors() if color not in {"#ffffff", "#ff8800"})
    visit.page.click(f'[data-hex="{computed}"]')
    visit.page.click("#color-lock")

    assert {"#ffffff", "#ff8800"} <= set(visit.colors())
    assert visit.page.input_value("#reserve-text") == f"#ffffff, #ff8800, {computed}"


def test_a_color_that_is_none_is_said_to_be_none(visit):
    visit.page.click("summary")
    visit.page.fill("#palette-text", "#000000, red")
    visit.page.press("#palette-text", "Tab")

    expect(visit.page.locator(".notice.error")).to_contain_text('"red" is no colour')
    expect(visit.page.locator("#palette-text")).to_have_attribute("aria-invalid", "true")


@pytest.mark.parametrize("format_", ["webp", "gif"])
def test_the_picture_is_saved_in_the_format_that_is_chosen(visit, format_):
    visit.bring_one("small.png", SMALL)
    visit.page.locator(f'input[name="format"][value="{format_}"]').check()
    expect(visit.page.locator("#curl")).to_contain_text(f"format={format_}")
    visit.settle()
    name, file = visit.download("#save")

    assert name == f"small-k64.{format_}"
    assert Image.open(io.BytesIO(file)).format == format_.upper()


@pytest.mark.parametrize("name", ["flower.png", 'it\'s a "photo"; really, (1).png'])
def test_the_command_that_is_shown_gives_the_same_file(visit, tmp_path, name):
    visit.bring({name: SMALL})
    expect(visit.page.locator("#chip-before")).to_contain_text(f"{len(SMALL) / 1000:.1f} kB")
    visit.settle()
    visit.page.locator("#dither").fill("0.75")
    expect(visit.page.locator("#curl")).to_contain_text("dither=0.75")
    visit.settle()
    _, saved = visit.download("#save")
    (tmp_path / name).write_bytes(SMALL)
    command = visit.page.inner_text("#curl")
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, capture_output=True)

    (made,) = set(tmp_path.iterdir()) - {tmp_path / name}
    assert made.read_bytes() == saved


def test_five_pictures_come_back_in_one_zip(visit):
    files = {f"{i}.png": encoded(photo(6 + i)) for i in range(4)} | {
        "0.jpg": encoded(photo(9), "JPEG")
    }
    visit.bring(files)
    visit.page.locator('#k-presets input[value="16"]').check()
    expect(visit.page.locator("#curl")).to_contain_text("k=16")  # not what came before it
    expect(visit.page.locator("#zip")).to_be_enabled()
    expect(visit.page.locator("#batch-sum")).to_contain_text("5 pictures")
    visit.settle()
    _, file = visit.download("#zip")

    archive = zipfile.ZipFile(io.BytesIO(file))
    assert archive.testzip() is None
    assert archive.namelist() == ["0-k16.png", "1-k16.png", "2-k16.png", "3-k16.png", "0-k16-2.png"]
    for name in archive.namelist():
        picture = Image.open(io.BytesIO(archive.read(name)))
        assert picture.mode == "P"
        assert len(picture.getcolors()) == 16


def test_a_color_replaced_in_one_picture_leaves_the_others_theirs(visit):
    visit.bring({f"{i}.png": encoded(photo(8 + i)) for i in range(2)})
    expect(visit.page.locator("#zip")).to_be_enabled()
    visit.settle()
    visit.page.locator("#color-replace").fill("#ff00ff")
    expect(visit.page.locator('[data-hex="#ff00ff"]')).to_be_visible()
    asked = len(visit.sent("/compress"))
    visit.page.locator("#batch-list [aria-pressed]").nth(1).click()
    expect(visit.page.locator("#curl")).to_contain_text("1.png")

    assert "#ff00ff" not in visit.colors()
    assert len(visit.sent("/compress")) == asked
    expect(visit.page.locator("#palette-text")).to_have_value("")


def test_each_of_several_pictures_shows_its_saving_and_can_be_looked_at(visit):
    visit.bring({f"{i}.png": encoded(photo(8 + i)) for i in range(3)})
    expect(visit.page.locator("#zip")).to_be_enabled()
    savings = visit.page.locator("#batch-list .saved").all_inner_texts()
    visit.page.locator("#batch-list [aria-pressed]").nth(2).click()

    assert all(re.fullmatch(rf"{MINUS}\d+ %", saving) for saving in savings)
    expect(visit.page.locator("#curl")).to_contain_text("2.png")


def test_pictures_are_added_to_those_that_are_there(visit):
    visit.bring({f"{i}.png": encoded(photo(8 + i)) for i in range(2)})
    expect(visit.page.locator("#zip")).to_be_enabled()
    with visit.page.expect_file_chooser() as waiting:
        visit.page.click("#add")
    waiting.value.set_files(
        {"name": "2.png", "mimeType": "image/png", "buffer": encoded(photo(11))}
    )
    expect(visit.page.locator("#batch-sum")).to_contain_text("3 pictures")

    assert visit.page.locator("#batch-list .name").all_inner_texts() == ["0.png", "1.png", "2.png"]
    expect(visit.page.locator("#curl")).to_contain_text("0.png")


def test_one_of_several_pictures_is_saved_alone(visit):
    visit.bring({f"{i}.png": encoded(photo(8 + i)) for i in range(2)})
    expect(visit.page.locator("#zip")).to_be_enabled()
    name, file = visit.download('[aria-label="Save 1.png"]')

    assert name == "1-k64.png"
    assert Image.open(io.BytesIO(file)).size == Image.open(io.BytesIO(encoded(photo(9)))).size


def test_one_of_several_pictures_is_removed(visit):
    visit.bring({f"{i}.png": encoded(photo(8 + i)) for i in range(3)})
    expect(visit.page.locator("#zip")).to_be_enabled()
    visit.page.locator('[aria-label="Remove 0.png"]').focus()
    visit.page.keyboard.press("Enter")

    expect(visit.page.locator("#curl")).to_contain_text("1.png")
    expect(visit.page.locator("#batch-sum")).to_contain_text("2 pictures")
    assert visit.page.evaluate("document.activeElement.textContent").startswith("1.png")
    visit.page.locator('[aria-label="Remove 2.png"]').click()
    expect(visit.page.locator("#batch")).to_be_hidden()
    expect(visit.page.locator("#curl")).to_contain_text("1.png")


def test_the_picture_is_copied(open_page):
    visit = open_page(permissions=["clipboard-read", "clipboard-write"])
    visit.page.click("#copy-picture")
    expect(visit.page.locator("#toast")).to_have_text("Picture copied")

    types = "navigator.clipboard.read().then(([item]) => item.types)"
    assert "image/png" in visit.page.evaluate(types)
