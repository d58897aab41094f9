"""A server of our own, and a visit to its page: what one does there, and what must not happen."""

import base64
import io
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import uvicorn
from PIL import Image
from playwright.sync_api import Page, expect
from sklearn.datasets import load_sample_image

from app.main import create_app

PATIENCE_MS = 60_000  # a shared machine may be slow; nothing here is timed

POLL_MS = 50
MINUS = "\N{MINUS SIGN}"  # how a saving is written

DROP = """([files, type]) => {
  const transfer = new DataTransfer();
  for (const [name, text] of files) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name));
  }
  const event = type === "paste"
    ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
    : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""


@contextmanager
def serving(settings):
    """A server on a free port of this machine, in a thread, until its engine is warm and beyond."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        application = create_app(settings)
        server = uvicorn.Server(uvicorn.Config(application, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not application.state.is_ready():
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def photo(step=4, name="china.jpg"):
    """A photograph, uint8 (h, w, 3); the larger the step, the smaller."""
    return np.ascontiguousarray(load_sample_image(name)[::step, ::step])


def encoded(pixels, format_="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_, **options)
    return file.getvalue()


@dataclass
class Visit:
    page: Page
    origin: str
    errors: list = field(default_factory=list)
    strangers: list = field(default_factory=list)
    requests: list = field(default_factory=list)
    _expected: list = field(default_factory=list)

    def __post_init__(self):
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._on_request)

    def expect_error(self, words):
        """Chromium itself reports every refused request; those a test provokes are no defect."""
        self._expected.append(words)

    def _on_console(self, message):
        if message.type in {"error", "warning"} and not any(
            words in message.text for words in self._expected
        ):
            self.errors.append(message.text)

    def _on_request(self, request):
        self.requests.append(request)
        if not request.url.startswith((self.origin, "blob:", "data:")):
            self.strangers.append(request.url)

    def go(self, *, wait=True):
        self.page.goto(self.origin)
        if wait:
            self.settle()

    def settle(self):
        """Wait for the answer about the picture on the stage."""
        expect(self.page.locator("#save")).to_be_enabled()
        expect(self.page.locator("#stage")).to_have_attribute("aria-busy", "false")
        expect(self.page.locator("#plot svg")).to_be_visible()

    def bring(self, files, by="drop"):
        """Drop or paste files, {name: bytes}."""
        listed = [[name, base64.b64encode(file).decode()] for name, file in files.items()]
        self.page.evaluate(DROP, [listed, by])

    def bring_one(self, name, file, by="drop"):
        """Drop or paste a picture and wait for its answer."""
        self.bring({name: file}, by)
        expect(self.page.locator("#curl")).to_contain_text(name)
        self.settle()

    def take_k(self, k):
        self.page.fill("#k-number", str(k))
        self.page.press("#k-number", "Enter")
        expect(self.page.locator("#k-out")).to_have_text(str(k))
        self.settle()

    def until(self, predicate):
        """Wait for something that no locator can say."""
        waited_ms = 0
        while not predicate():
            assert waited_ms < PATIENCE_MS
            self.page.wait_for_timeout(POLL_MS)
            waited_ms += POLL_MS

    def colors(self):
        return self.page.locator(".swatch").evaluate_all("all => all.map((one) => one.dataset.hex)")

    def download(self, selector):
        """Press something that saves a file: its name and its bytes."""
        with self.page.expect_download() as waiting:
            self.page.click(selector)
        saved = waiting.value
        return saved.suggested_filename, saved.path().read_bytes()

    def picture(self):
        """The picture that Save gives, opened."""
        return Image.open(io.BytesIO(self.download("#save")[1]))

    def sent(self, path):
        return [request for request in self.requests if request.url.split("?")[0].endswith(path)]
