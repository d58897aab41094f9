"""From the drop of a photograph to its result on screen, in Chromium, on a server of our own.

    python -m benchmarks.bench_page [--images FOLDER] [--repeat 5]

A 1200 x 1600 JPEG is dropped onto the page; the clock, the browser's own, runs from the drop event
to the second frame after the picture in fewer colours has been decoded. Every drop is of other
bytes, so that nothing is answered from memory. Browser and server share the processors. Without a
folder the photographs are those of `benchmarks.pictures`, enlarged, and a synthetic one that has as
many colours as a photograph of that size.
"""

import base64
import contextlib
import io
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from benchmarks import machine, pictures
from benchmarks.report import Report, parser, table

HEIGHT, WIDTH = 1200, 1600
GOAL_S = 1.5
PACKAGES = ("gpu-kmeans", "torch", "numba", "pillow", "playwright")
COMMAND = Path(sys.executable).with_name("gpu-kmeans")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
DROP = """async (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "photo.jpg"));
  const after = document.getElementById("after");
  const old = after.src;
  const frame = () => new Promise(requestAnimationFrame);
  await frame();
  const begin = performance.now();
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
  while (after.src === old || after.hidden || !after.complete) await frame();
  await after.decode();
  await frame();
  await frame();
  return performance.now() - begin;
}"""


def main() -> None:
    options = parser("the page, from drop to result")
    options.add_argument("--images", type=Path, help="photographs instead")
    options.add_argument("--repeat", type=int, default=5, help="drops of each photograph")
    given = options.parse_args()
    photos = dict(photographs(given.images))
    report = Report("The page: from drop to result", machine.describe(PACKAGES))
    with served() as url, sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        report.say(
            f"Chromium {browser.version}; {given.repeat} drops of each, after one unmeasured.\n"
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(url)
        page.locator("#save:enabled").wait_for()
        times = {name: drops(page, photo, given.repeat) for name, photo in photos.items()}
        browser.close()
    report.data["seconds"] = times
    rows = [
        [name, f"{statistics.median(each):.2f}", f"{min(each):.2f}", f"{max(each):.2f}"]
        for name, each in times.items()
    ]
    report.say(table(["photograph, 1200 x 1600", "median s", "least", "most"], rows))
    slowest = max(statistics.median(each) for each in times.values())
    held = "held" if slowest <= GOAL_S else "missed"
    report.say(f"\nThe slowest median is {slowest:.2f} s; the goal of {GOAL_S} s is {held}.")
    report.write(given.out, "page")


def photographs(folder: Path | None) -> Iterator[tuple[str, np.ndarray]]:
    """Give photographs of 1200 x 1600 by name; a folder's upright ones are laid on their side."""
    for name, path in (pictures.in_folder(folder) if folder else pictures.shipped()).items():
        photo = Image.fromarray(pictures.read(path))
        if photo.height > photo.width:
            photo = photo.transpose(Image.Transpose.ROTATE_90)
        yield name, np.asarray(photo.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
    if not folder:
        yield "synthetic", pictures.synthetic(HEIGHT, WIDTH)


def drops(page: Page, photo: np.ndarray, repeat: int) -> list[float]:
    """Drop a photograph so many times, each time as another file; seconds, the first left out."""
    seconds = []
    for i in range(repeat + 1):
        file = io.BytesIO()
        Image.fromarray(np.roll(photo, i, axis=1)).save(file, "JPEG", quality=90)
        seconds.append(page.evaluate(DROP, base64.b64encode(file.getvalue()).decode()) / 1000)
        page.wait_for_load_state("networkidle")
    return seconds[1:]


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Start a service on any free port; its lines on standard error say which, and when it is."""
    arguments = [COMMAND, "serve", "--port", "0"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        said = iter(process.stderr.readline, "") if process.stderr else iter(())
        yield next(m[0] for line in said if (m := re.search(r"http://127\.0\.0\.1:\d+", line)))
        process.terminate()


if __name__ == "__main__":
    main()
