"""When something goes wrong: it is said in words, what to do is offered, nothing is lost."""

import io
import json

from PIL import Image
from playwright.sync_api import expect
from visit import Visit, encoded, photo, serving

from app.settings import Settings

PHOTO = encoded(photo())
BUSY = {
    "type": "urn:gpu-kmeans:queue-full",
    "title": "The queue is full",
    "status": 429,
    "code": "queue-full",
    "detail": "Too many requests wait already.",
}


def answer_busy(route, retry_after="1"):
    route.fulfill(
        status=429,
        headers={"Content-Type": "application/problem+json", "Retry-After": retry_after},
        body=json.dumps(BUSY),
    )


def test_a_broken_file_is_said_to_be_broken(visit):
    visit.expect_error("422")
    visit.bring({"half.png": PHOTO[: len(PHOTO) // 2]})

    notice = visit.page.locator(".notice.error")
    expect(notice).to_contain_text("half.png")
    expect(notice).to_contain_text("save it again")
    for selector in ("#save", "#copy-curl", "#color-copy", "#color-lock", "#color-replace"):
        expect(visit.page.locator(selector)).to_be_disabled()
    expect(visit.page.locator(".swatch")).to_have_count(0)  # none of another picture's
    expect(visit.page.locator("#curl")).to_be_empty()


def test_a_file_that_is_gone_is_not_taken_for_a_server_that_is_gone(visit, tmp_path):
    visit.expect_error("ERR_FILE_NOT_FOUND")
    path = tmp_path / "fleeting.png"
    path.write_bytes(PHOTO)
    visit.page.set_input_files("#files", path)
    expect(visit.page.locator("#curl")).to_contain_text("fleeting.png")
    visit.settle()
    path.unlink()
    visit.page.locator('#k-presets input[value="16"]').check()

    expect(visit.page.locator(".notice.error")).to_contain_text("The file cannot be read")


def test_a_file_that_is_no_picture_is_refused_with_what_is_taken(visit):
    visit.expect_error("415")
    visit.bring({"notes.txt": b"no picture at all"})

    expect(visit.page.locator(".notice.error")).to_contain_text("PNG, JPEG, WebP, GIF and BMP")


def test_an_empty_file_is_said_to_be_empty(visit):
    visit.expect_error("422")
    visit.bring({"empty.png": b""})

    notice = visit.page.locator(".notice.error")
    expect(notice).to_have_text("empty.png: The file is empty: choose another.")


def test_what_went_wrong_and_what_to_do_are_two_sentences(visit):
    visit.expect_error("422")
    visit.page.locator("#k-presets input[value=auto]").check()
    visit.page.select_option("#target", "max_bytes")
    visit.page.fill("#max_bytes", "1")
    visit.page.press("#max_bytes", "Tab")

    expect(visit.page.locator(".notice.error")).to_contain_text("1 colour. Change that option")


def test_after_trouble_the_next_picture_is_as_good_as_ever(visit):
    visit.expect_error("415")
    visit.bring({"notes.txt": b"no picture at all"})
    expect(visit.page.locator(".notice.error")).to_be_visible()
    visit.bring_one("photo.png", PHOTO)

    expect(visit.page.locator(".notice.error")).to_have_count(0)


def test_a_broken_file_among_several_keeps_none_from_coming(visit):
    visit.expect_error("415")
    visit.bring({"a.png": PHOTO, "notes.txt": b"no picture", "b.png": PHOTO})
    expect(visit.page.locator("#zip")).to_be_enabled()

    expect(visit.page.locator("#batch-sum")).to_contain_text("2 pictures")
    expect(visit.page.locator('#batch-list [data-state="failed"]')).to_have_count(1)
    expect(visit.page.locator("#batch-sum")).to_contain_text("1 failed")
    asked = len(visit.sent("/compress"))
    visit.page.locator("#batch-list [aria-pressed]").nth(1).click()
    expect(visit.page.locator(".notice.error")).to_contain_text("PNG, JPEG, WebP, GIF and BMP")
    assert len(visit.sent("/compress")) == asked


def test_a_long_wait_can_be_stopped_and_begun_again(visit):
    visit.page.route("**/compress?k=8&*", lambda _: None)  # never answered
    visit.page.locator('#k-presets input[value="8"]').check()
    visit.page.get_by_role("button", name="Stop").click()
    expect(visit.page.locator(".notice.error")).to_contain_text("Stopped.")
    expect(visit.page.locator("#busy")).to_be_hidden()

    visit.page.unroute("**/compress?k=8&*")
    visit.page.get_by_role("button", name="Try again").click()
    expect(visit.page.locator("#k-out")).to_have_text("8")
    expect(visit.page.locator(".notice.error")).to_have_count(0)


def test_a_busy_server_is_asked_again(visit):
    visit.expect_error("429")
    visit.page.route("**/compress?*", answer_busy, times=2)
    visit.page.locator('#k-presets input[value="16"]').check()
    expect(visit.page.locator(".notice")).to_contain_text("asked again in 1 s")

    expect(visit.page.locator("#k-out")).to_have_text("16")
    expect(visit.page.locator("#notices")).not_to_contain_text("busy")


def test_a_server_that_is_gone_is_said_to_be_gone_and_tried_again(visit):
    visit.expect_error("ERR_CONNECTION_REFUSED")
    visit.page.route("**/compress?*", lambda route: route.abort("connectionrefused"))
    visit.page.locator('#k-presets input[value="16"]').check()
    notice = visit.page.locator(".notice.error")
    expect(notice).to_contain_text("The server does not answer")
    expect(visit.page.locator("#k-out")).to_have_text("64")  # the last answer is still there
    visit.page.unroute("**/compress?*")
    notice.get_by_role("button", name="Try again").click()

    expect(visit.page.locator("#k-out")).to_have_text("16")
    expect(notice).to_have_count(0)


def test_a_result_that_is_larger_is_called_larger_and_says_what_to_try(visit):
    visit.bring_one("poor.jpg", encoded(photo(2), "JPEG", quality=20))
    notice = visit.page.locator(".notice.warn")
    expect(notice).to_contain_text("Larger than the upload")
    expect(visit.page.locator("#saving")).to_contain_text("+")
    expect(visit.page.locator("#saving")).to_have_class("worse")
    notice.get_by_role("button", name="k = 32").click()

    expect(visit.page.locator("#k-out")).to_have_text("32")


def test_an_animation_that_will_stand_still_is_warned_of(visit):
    frames = [Image.fromarray(photo(8, name)) for name in ("china.jpg", "flower.jpg")]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    visit.bring_one("moving.gif", file.getvalue())

    expect(visit.page.locator(".notice.warn")).to_contain_text("only its first frame")


def test_the_original_can_be_kept_instead(visit):
    file = encoded(photo(2), "JPEG", quality=20)
    visit.bring_one("poor.jpg", file)
    visit.page.locator(".notice.warn").get_by_role("button", name="Keep original").click()
    expect(visit.page.locator("#curl")).to_contain_text("skip_if_larger=true")
    visit.settle()

    assert visit.download("#save") == ("poor.jpg", file)
    expect(visit.page.locator("#saving")).to_have_text("0 %")


def test_too_many_locked_colors_are_refused_in_words(visit):
    visit.expect_error("422")
    visit.take_k(8)
    for i in range(4):
        visit.page.locator(".swatch").nth(i).click()
        visit.page.click("#color-lock")
    visit.page.fill("#k-number", "2")
    visit.page.press("#k-number", "Enter")

    expect(visit.page.locator(".notice.error")).to_contain_text("reserve")


def test_a_server_that_wants_a_key_is_given_one(chromium):
    with serving(Settings(api_keys="open sesame")) as origin:
        visit = Visit(chromium.new_page(), origin)
        visit.expect_error("401")
        visit.go(wait=False)
        visit.page.get_by_label("API key").fill("open sesame")
        visit.page.get_by_role("button", name="Use this key").click()
        visit.settle()

        expect(visit.page.locator("#curl")).to_contain_text('-H "Authorization: Bearer $KEY"')
        visit.page.close()
    assert visit.errors == []
