"""Make the pictures of the page in the documents: make screenshots (needs Debian's chromium).

page-wide.png, page-narrow.png and page-dark.png: the page with its sample, as Chromium draws it on
a desk, on a telephone and in the dark.
"""

import io
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from app.main import create_app

IMAGES = Path(__file__).parent / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DESK = {"width": 1440, "height": 1240}
TELEPHONE = {"width": 390, "height": 844}
SHOTS = {
    "page-wide": {"viewport": DESK},
    "page-narrow": {"viewport": TELEPHONE, "is_mobile": True, "has_touch": True},
    "page-dark": {"viewport": DESK, "color_scheme": "dark"},
}
COLORS = 256  # of a picture written: what the project is for


@contextmanager
def serving() -> Iterator[str]:
    """Serve on a free port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def shoot(browser: Browser, url: str, name: str, how: dict) -> None:
    """Draw the page once its answer and its curve are there."""
    page = browser.new_context(**how).new_page()
    page.goto(url)
    page.locator("#plot svg").wait_for()
    page.wait_for_function("() => document.querySelector('#busy').hidden")
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path = IMAGES / f"{name}.png"
    picture.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def main() -> None:
    """Write every picture."""
    with serving() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for name, how in SHOTS.items():
            shoot(browser, url, name, how)
        browser.close()


if __name__ == "__main__":
    main()
