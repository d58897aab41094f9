"""Drawing in a process of its own: what dies, hangs or is not wanted costs its own plot only."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
from servers import wait_until

import app.drawer
from app.drawer import Drawer
from app.plots import starts_figure, write_figure
from app.sketches import Sketch, Starts

STARTS = Starts(k=2, random=np.array([3.0, 1.0]), plus=np.ones(2))
SKETCH = Sketch("starts", (STARTS,))


def drawn(*steps):
    """Run steps on one drawer, one after the other."""

    async def run(drawer):
        return [await step(drawer) for step in steps]

    with closing(Drawer()) as drawer:
        return asyncio.run(run(drawer))


def draw(drawer):
    return drawer.draw(SKETCH, "svg")


@pytest.mark.parametrize("plot_format", ["svg", "png"])
def test_the_file_is_that_of_the_figure(plot_format):
    (file,) = drawn(lambda drawer: drawer.draw(SKETCH, plot_format))

    assert file == write_figure(starts_figure(STARTS), plot_format)


def test_what_cannot_be_drawn_fails_alone():
    async def fail(drawer):
        with pytest.raises(RuntimeError, match="starts could not be drawn"):
            await drawer.draw(Sketch("starts", (None,)), "svg")

    _, file = drawn(fail, draw)

    assert file.startswith(b"<?xml")


def test_a_process_that_was_killed_is_replaced():
    async def kill(drawer):
        os.kill(drawer._process._popen.pid, signal.SIGKILL)

    before, _, after = drawn(draw, kill, draw)

    assert before == after


def test_a_plot_nobody_waits_for_ends_with_its_process():
    async def leave(drawer):
        await draw(drawer)
        process = drawer._process._popen
        os.kill(process.pid, signal.SIGSTOP)  # it would never answer
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(draw(drawer), 0.1)
        return process.poll()

    status, file = drawn(leave, draw)

    assert status == -signal.SIGKILL
    assert file.startswith(b"<?xml")


def test_an_idle_process_ends(monkeypatch):
    monkeypatch.setattr(app.drawer, "_IDLE_S", 0.01)

    async def look(drawer):
        process = drawer._process._popen
        await asyncio.sleep(0.1)
        wait_until(lambda: process.poll() is not None)
        return drawer._process

    _, left, file = drawn(draw, look, draw)

    assert left is None
    assert file.startswith(b"<?xml")


def test_many_are_drawn_one_after_the_other():
    async def draw_many(drawer):
        return await asyncio.gather(*(draw(drawer) for _ in range(5)))

    (files,) = drawn(draw_many)

    assert len(set(files)) == 1


def test_it_knows_neither_torch_nor_the_web_and_the_service_nothing_of_what_draws():
    for module, strangers in (
        ("app.drawing_process", {"torch", "fastapi", "numba"}),
        ("app.main", {"matplotlib"}),
    ):
        code = f"import sys, {module}; print({strangers} & sys.modules.keys())"
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )

        assert result.stdout.strip() == "set()", module
