"""The page in a browser: see a picture, compare it, choose k."""

import hashlib
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect
from visit import MINUS, encoded, photo

from app.options import CompressOptions, parse_options
from app.preferences import preferred
from benchmarks import bench_page

VENDOR = Path(__file__).parent / "vendor"
PHOTO = encoded(photo(), "JPEG", quality=95)
SCALES = {"1": 1, "2": 2, "4": 4, "8": 8}
SHIFTS = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


def query(request):
    return {name: values[0] for name, values in parse_qs(urlsplit(request.url).query).items()}


def clip(page):
    return page.locator("#after").evaluate("image => image.style.clipPath")


def test_the_page_works_at_once_with_its_sample(visit):
    expect(visit.page.locator("#k-out")).to_have_text("64")
    expect(visit.page.locator("#saving")).to_contain_text(MINUS)
    assert visit.picture().size == (640, 427)


@pytest.mark.parametrize("by", ["drop", "paste"])
def test_a_photograph_that_is_brought_is_compressed(visit, by):
    visit.bring_one("holiday.jpg", PHOTO, by)

    picture = visit.picture()
    assert picture.mode == "P"
    assert picture.size == (160, 107)
    assert len(picture.getcolors(256)) == 64


def test_the_benchmark_of_the_page_times_every_drop_but_the_first(visit):
    seconds = bench_page.drops(visit.page, photo(), 2)

    assert len(seconds) == 2
    assert min(seconds) > 0
    expect(visit.page.locator("#curl")).to_contain_text("photo.jpg")


def test_a_photograph_that_is_picked_is_compressed(visit):
    with visit.page.expect_file_chooser() as waiting:
        visit.page.click("#choose")
    waiting.value.set_files({"name": "picked.jpg", "mimeType": "image/jpeg", "buffer": PHOTO})

    expect(visit.page.locator("#curl")).to_contain_text("picked.jpg")


def test_the_slider_of_k_asks_when_it_is_let_go(visit):
    slider = visit.page.locator("#k-slider")
    box = slider.bounding_box()
    asked = len(visit.sent("/compress"))
    visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visit.page.mouse.down()
    for step in range(10):
        visit.page.mouse.move(box["x"] + 40 + 3 * step, box["y"] + box["height"] / 2)
    while_held = len(visit.sent("/compress"))
    shown = visit.page.input_value("#k-number")
    visit.page.mouse.up()

    expect(visit.page.locator("#k-out")).to_have_text(shown)
    assert while_held == asked
    assert len(visit.sent("/compress")) == asked + 1


def test_the_slider_of_k_works_by_keys(visit):
    visit.take_k(16)
    visit.page.focus("#k-slider")
    visit.page.keyboard.press("ArrowRight")

    expect(visit.page.locator("#k-out")).to_have_text("17")
    expect(visit.page.locator("#k-slider")).to_have_attribute("aria-valuetext", "17 colours")


@pytest.mark.parametrize("k", ["8", "256", "auto", "elbow"])
def test_a_preset_is_asked_for_in_the_words_of_the_api(visit, k):
    visit.page.locator(f'#k-presets input[value="{k}"]').check()
    expect(visit.page.locator("#curl")).to_contain_text(f"k={k}")

    assert query(visit.sent("/compress")[-1])["k"] == k


@pytest.mark.parametrize("target", ["min_psnr", "min_quality", "max_bytes"])
def test_k_is_chosen_by_the_target_that_is_picked(visit, target):
    visit.page.locator('#k-presets input[value="auto"]').check()
    visit.page.locator("#target").select_option(target)
    expect(visit.page.locator("#palette-note")).to_contain_text(target)

    asked = query(visit.sent("/compress")[-1])
    assert asked == {"k": "auto", target: visit.page.input_value(f"#{target}"), "curve": "false"}
    assert visit.page.locator(f"#{target}").is_visible()


def test_what_the_server_chose_is_shown(visit):
    visit.page.locator('#k-presets input[value="elbow"]').check()
    expect(visit.page.locator("#palette-note")).to_contain_text("knee")

    knee = visit.page.locator("#criteria button").first.inner_text()
    assert knee == f"k = {visit.page.inner_text('#k-out')}"
    assert visit.page.input_value("#k-number") == visit.page.inner_text("#k-out")


def test_dither_and_space_are_asked_for(visit):
    visit.page.locator('input[name="space"][value="rgb"]').check()
    visit.page.locator("#dither").fill("0.5")
    expect(visit.page.locator("#curl")).to_contain_text("dither=0.5")

    assert query(visit.sent("/compress")[-1]) == {
        "k": "64", "space": "rgb", "dither": "0.5", "curve": "false"
    }  # fmt: skip


STRENGTHS = {  # what is done -> what is asked for beside k
    "nothing": ([], {}),
    "bytes": ([("prefer", "bytes")], {"prefer": "bytes"}),
    "bytes, then looks": ([("prefer", "bytes"), ("prefer", "looks")], {}),
    "thrift": ([("thrift", "10")], {"thrift": "1"}),
    "thrift, then bytes": ([("thrift", "10"), ("prefer", "bytes")], {"prefer": "bytes"}),
    "thrift, then dithering": ([("thrift", "10"), ("dither", "0.3")], {"dither": "0.3"}),
    "neither": ([("dither", "0")], {"dither": "0"}),
    "bytes without thrift": (
        [("prefer", "bytes"), ("thrift", "0")], {"prefer": "bytes", "thrift": "0"}
    ),
    "bytes with dithering": (
        [("prefer", "bytes"), ("dither", "0.3")], {"prefer": "bytes", "dither": "0.3"}
    ),
    "thrift and a target": (
        [("thrift", "10"), ("k", "auto")], {"k": "auto", "min_psnr": "32", "thrift": "1"}
    ),
    "thrift and back": ([("thrift", "10"), ("thrift", "0")], {}),
    "a target and no more": ([("k", "auto"), ("k", "64")], {}),
}  # fmt: skip


def shown_strengths(page):
    strengths = {
        name: 0 if (text := page.inner_text(f"#{name}-out")) == "off" else float(text)
        for name in ("dither", "thrift")
    }
    return strengths | {"space": page.locator('input[name="space"]:checked').input_value()}


def test_space_dither_and_thrift_are_shown_as_the_server_takes_them(visit):
    for name, (steps, asked) in STRENGTHS.items():
        visit.page.click("#defaults")
        for control, value in steps:
            if control in {"prefer", "k"}:
                visit.page.locator(f'input[name="{control}"][value="{value}"]').check()
            else:
                visit.page.locator(f"#{control}").fill(value)
        expected = {"k": "64", "curve": "false", **asked}
        visit.until(lambda: query(visit.sent("/compress")[-1]) == expected)  # noqa: B023 - at once

        taken = preferred(parse_options(CompressOptions, expected.items()))
        del taken["solid"]  # has no control: it follows the others
        assert shown_strengths(visit.page) == taken, name
    visit.settle()
    expect(visit.page.locator("#curl")).to_contain_text("?k=64'")


def test_the_method_of_dithering_is_asked_for(visit):
    visit.page.locator("#dither_method").evaluate("one => one.closest('details').open = true")
    visit.page.locator("#dither_method").select_option("blue-noise")
    expect(visit.page.locator("#curl")).to_contain_text("dither_method=blue-noise")
    visit.until(lambda: query(visit.sent("/compress")[-1]).get("dither_method") == "blue-noise")

    visit.page.click("#defaults")
    expect(visit.page.locator("#curl")).to_contain_text("?k=64'")


def test_thrift_takes_fewer_bytes_in_place_of_dithering(visit):
    before = visit.download("#save")[1]
    visit.page.focus("#thrift")
    visit.page.keyboard.press("End")
    expect(visit.page.locator("#thrift")).to_have_attribute("aria-valuetext", "10.00")
    expect(visit.page.locator("#dither-out")).to_have_text("off")
    expect(visit.page.locator("#curl")).to_contain_text("?k=64&thrift=10'")
    visit.settle()

    assert len(visit.download("#save")[1]) < len(before) / 2


def test_a_quality_that_was_asked_for_is_shown_as_reached(visit):
    visit.page.locator('#k-presets input[value="auto"]').check()
    visit.page.locator("#target").select_option("min_quality")
    expect(visit.page.locator("#psnr-label")).to_have_text("Quality")

    assert float(visit.page.inner_text("#psnr")) >= float(visit.page.input_value("#min_quality"))


PINCH = """([apart]) => {
  const view = document.getElementById("viewport");
  const { left, top } = view.getBoundingClientRect();
  const finger = (x, identifier) =>
    new Touch({ identifier, target: view, clientX: left + 150 + x, clientY: top + 100 });
  const send = (type, xs) =>
    view.dispatchEvent(new TouchEvent(type, { cancelable: true, touches: xs.map(finger) }));
  send("touchstart", [-40, 40]);
  send("touchmove", [-40 * apart, 40 * apart]);
  send("touchend", []);
}"""


def test_two_fingers_zoom_on_a_telephone(open_page):
    visit = open_page(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    zoom = visit.page.locator("#zoom input:checked")
    visit.page.evaluate(PINCH, [2])
    expect(zoom).to_have_value("1")
    visit.page.evaluate(PINCH, [2])
    expect(zoom).to_have_value("2")
    visit.page.evaluate(PINCH, [0.5])

    expect(zoom).to_have_value("1")


def test_the_picture_stays_in_sight_on_a_telephone_while_its_options_are_turned(open_page):
    visit = open_page(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    for control in ("k-number", "dither", "thrift", "skip_if_larger"):
        visit.page.focus(f"#{control}")
        box = visit.page.locator(f"#{control}").bounding_box()
        stage = visit.page.locator("#stage").bounding_box()

        assert stage["y"] >= 0
        assert stage["y"] + stage["height"] <= box["y"]
        assert box["y"] + box["height"] <= 740


def test_colors_stay_colors_where_the_system_forces_its_own(open_page):
    visit = open_page(forced_colors="active")
    visit.take_k(8)
    swatch = visit.page.locator(".swatch").first
    painted = swatch.evaluate("one => getComputedStyle(one).backgroundColor")
    chosen, other = (
        visit.page.locator(selector).evaluate("one => getComputedStyle(one).backgroundColor")
        for selector in ("#k-presets :checked + span", "#k-presets :not(:checked) + span >> nth=0")
    )

    levels = bytes.fromhex(swatch.get_attribute("data-hex")[1:])
    assert painted == f"rgb({', '.join(map(str, levels))})"
    assert chosen != other


def test_a_request_that_nobody_waits_for_is_cancelled(visit):
    failed = []
    visit.page.on("requestfailed", lambda request: failed.append((request.url, request.failure)))
    held = []
    visit.page.route("**/compress?k=8&*", lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks what it is given
    with visit.page.expect_request("**/compress?k=8&*"):
        visit.page.locator('#k-presets input[value="8"]').check()
    visit.page.locator('#k-presets input[value="16"]').check()

    expect(visit.page.locator("#k-out")).to_have_text("16")
    assert [("k=8" in url, reason) for url, reason in failed] == [(True, "net::ERR_ABORTED")]


def test_reset_goes_back_to_the_defaults(visit):
    visit.take_k(12)
    visit.page.click("#defaults")

    expect(visit.page.locator("#k-out")).to_have_text("64")


def test_the_split_follows_the_pointer(visit):
    stage = visit.page.locator("#stage").bounding_box()
    line = visit.page.locator("#line").bounding_box()
    visit.page.mouse.move(line["x"] + line["width"] / 2, line["y"] + line["height"] / 2)
    visit.page.mouse.down()
    visit.page.mouse.move(stage["x"] + 0.25 * stage["width"], line["y"] + 50)
    visit.page.mouse.up()

    moved = visit.page.locator("#line").bounding_box()
    assert moved["x"] + moved["width"] / 2 == pytest.approx(
        stage["x"] + 0.25 * stage["width"], abs=8
    )
    assert float(visit.page.input_value("#split")) == pytest.approx(25, abs=1.5)


def test_the_split_works_by_keys(visit):
    before = clip(visit.page)
    visit.page.focus("#split")
    visit.page.keyboard.press("End")
    at_end = clip(visit.page)
    visit.page.keyboard.press("Home")

    assert len({before, at_end, clip(visit.page)}) == 3
    assert clip(visit.page) == "inset(0px)"


@pytest.mark.parametrize("ratio", [1, 2])
def test_a_pixel_is_a_whole_number_of_pixels_of_the_screen(open_page, ratio):
    visit = open_page(device_scale_factor=ratio)
    for zoom, scale in SCALES.items():
        visit.page.locator(f'#zoom input[value="{zoom}"]').check()
        width = visit.page.locator("#sheet").evaluate(
            "sheet => sheet.getBoundingClientRect().width"
        )
        assert width * ratio == 640 * scale
        assert visit.page.locator("#after").evaluate(
            "image => getComputedStyle(image).imageRendering"
        ) == "pixelated"  # fmt: skip


def test_a_zoomed_picture_is_moved_by_keys_and_by_pointer(visit):
    visit.page.locator('#zoom input[value="4"]').check()
    left = "view => view.scrollLeft"
    viewport = visit.page.locator("#viewport")
    middle = viewport.evaluate(left)
    viewport.focus()
    visit.page.keyboard.press("ArrowRight")
    visit.until(lambda: viewport.evaluate(left) > middle)
    box = viewport.bounding_box()
    here = viewport.evaluate(left)
    visit.page.mouse.move(box["x"] + 100, box["y"] + 300)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + 300, box["y"] + 300, steps=4)
    visit.page.mouse.up()

    visit.until(lambda: viewport.evaluate(left) < here - 100)


def test_a_click_on_the_curve_takes_its_k(visit):
    visit.page.select_option("#plot-k-max", "20")
    expect(visit.page.locator("#plot svg")).to_have_attribute("aria-valuemax", "20")
    plot = visit.page.locator("#plot svg")
    plot.hover(position={"x": 200, "y": 100})
    readout = visit.page.inner_text("#plot-readout")
    plot.click(position={"x": 200, "y": 100})

    k = re.search(r"k = (\d+) · WCSS .* dB", readout)[1]
    expect(visit.page.locator("#k-out")).to_have_text(k)


def test_the_curve_is_worked_by_keys(visit):
    visit.page.focus("#plot svg")
    visit.page.keyboard.press("Home")
    for _ in range(4):
        visit.page.keyboard.press("ArrowRight")
    expect(visit.page.locator("#plot svg")).to_have_attribute(
        "aria-valuetext", re.compile("^k = 5, WCSS .* dB$")
    )
    visit.page.keyboard.press("Enter")

    expect(visit.page.locator("#k-out")).to_have_text("5")


def test_what_the_curve_says_is_in_sight_where_keys_work_it(visit):
    visit.page.evaluate("scrollTo(0, 0)")
    visit.page.focus("#plot svg")

    expect(visit.page.locator("#plot-readout")).to_be_in_viewport(ratio=1)


def test_the_picture_shows_that_keys_move_it(visit):
    visit.page.locator('input[name="zoom"][value="2"]').check()
    visit.page.evaluate("document.getElementById('viewport').focus({ focusVisible: true })")

    ring = "getComputedStyle(document.querySelector('.stage'), '::after').borderTopWidth"
    assert visit.page.evaluate(ring) == "3px"


def test_enter_takes_the_number_that_is_shown(visit):
    visit.page.locator('#k-presets input[value="auto"]').check()
    visit.settle()
    k = visit.page.input_value("#k-number")
    visit.page.focus("#k-number")
    visit.page.keyboard.press("Enter")
    visit.settle()

    assert query(visit.sent("/compress")[-1])["k"] == k
    expect(visit.page.locator("#curl")).to_contain_text(f"?k={k}'")


def test_the_plot_shows_psnr_too(visit):
    visit.page.locator('input[name="axis"][value="psnr_db"]').check()

    expect(visit.page.locator("#plot svg")).to_contain_text("dB")


def test_criteria_stand_beside_each_other(visit):
    words = visit.page.locator("#criteria li").all_inner_texts()

    assert [each.split("\n")[0] for each in words] == [
        "Knee of the curve", "Calinski-Harabasz", "Simplified silhouette",
        "Error a tenth of the first", "Fewest with 32 dB",
    ]  # fmt: skip


def test_a_criterion_can_be_taken(visit):
    knee = visit.page.locator("#criteria button").first.inner_text().removeprefix("k = ")
    visit.page.locator("#criteria button").first.click()

    expect(visit.page.locator("#k-out")).to_have_text(knee)


def test_the_sizes_of_many_k_are_measured(visit):
    visit.bring_one("small.png", encoded(photo(8)))
    visit.page.click("#measure")
    expect(visit.page.locator("#sizes td", has_text="dB")).to_have_count(7)

    texts = visit.page.locator("#sizes tbody tr").all_inner_texts()
    assert [text.split()[0] for text in texts] == ["4", "8", "16", "32", "64", "128", "256"]


def test_measuring_ends_when_the_options_change(visit):
    failed = []
    visit.page.on("requestfailed", lambda request: failed.append(query(request)["k"]))
    visit.page.route("**/compress?k=4&*", lambda route: route)  # never answered
    with visit.page.expect_request("**/compress?k=4&*"):
        visit.page.click("#measure")
    expect(visit.page.locator("#measure")).to_be_disabled()
    visit.page.locator('input[name="format"][value="webp"]').check()
    expect(visit.page.locator("#measure")).to_be_enabled()

    assert failed == ["4"]


def test_the_cube_is_turned_by_keys_and_by_pointer(visit):
    cube = visit.page.locator("#cube")
    cube.focus()
    visit.page.keyboard.press("ArrowLeft")
    by_keys = cube.get_attribute("data-turn")
    box = cube.bounding_box()
    visit.page.mouse.move(box["x"] + 100, box["y"] + 100)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + 200, box["y"] + 120, steps=3)
    visit.page.mouse.up()

    assert by_keys
    assert cube.get_attribute("data-turn") != by_keys


def test_everything_can_be_reached_by_the_tab_key(visit):
    reached = set()
    for _ in range(70):
        visit.page.keyboard.press("Tab")
        reached.add(visit.page.evaluate("document.activeElement.id || document.activeElement.name"))

    assert reached >= {
        "choose", "sample", "viewport", "split", "zoom", "copy-picture", "save", "k-slider",
        "k-number", "k", "dither", "thrift", "space", "sort", "color-copy", "color-lock",
        "color-replace", "color-remove", "axis", "plot-k-max", "measure", "cube", "copy-curl",
    }  # fmt: skip


@pytest.mark.parametrize("width", [320, 390, 768, 1024, 1920])
def test_nothing_is_wider_than_the_window(open_page, width):
    visit = open_page(viewport={"width": width, "height": 800})

    too_wide = visit.page.evaluate(
        """[...document.body.querySelectorAll('*')].filter((one) => !one.closest('#sheet, .skip')
           && one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
           .map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert too_wide == []


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_jumps_when_an_answer_comes(open_page, width):
    visit = open_page(viewport={"width": width, "height": 800}, is_mobile=width < 500, wait=False)
    visit.page.context.add_init_script(SHIFTS)
    visit.go()
    visit.bring_one("holiday.jpg", PHOTO)
    visit.page.locator('#k-presets input[value="8"]').check()
    expect(visit.page.locator("#k-out")).to_have_text("8")
    visit.bring_one("poor.jpg", encoded(photo(), "JPEG", quality=20))
    expect(visit.page.locator(".notice.warn")).to_be_visible()

    assert visit.page.evaluate("window.shift") < 0.01


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_that_shuts_people_out(open_page, scheme, width):
    visit = open_page(
        color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True
    )
    visit.expect_error("415")
    files = {f"{i}.png": encoded(photo(8 + i)) for i in range(2)}
    visit.bring({"notes.txt": b"no picture"} | files)
    expect(visit.page.locator("#zip")).to_be_enabled()
    visit.page.locator("#batch-list [aria-pressed]").last.click()
    visit.settle()
    visit.page.locator('#k-presets input[value="auto"]').check()
    visit.page.click("summary")
    visit.page.click("#color-lock")
    visit.settle()
    visit.page.add_script_tag(path=VENDOR / "axe.min.js")
    found = visit.page.evaluate("axe.run()")

    assert [
        (one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]
    ] == []


def test_axe_is_what_was_published():
    for line in (VENDOR / "SHA256SUMS").read_text().splitlines():
        checksum, name = line.split()
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == checksum
