"""Drawing in a process that can be killed, so that nobody else waits for it.

What draws computes in Python: in a thread of the server it would keep the interpreter from everyone
else, health checks among them, and leave them so much garbage to collect. The process is started
for the first plot, draws one at a time, and ends when it is idle for a while, or when the client it
draws for leaves.
"""

import asyncio
import pickle
from dataclasses import dataclass

from anyio import to_thread

from app.pipes import LENGTH, PipedProcess, ProcessDiedError
from app.sketches import PlotFormat, Sketch

__all__ = ["Drawer"]

_IDLE_S = 60.0  # then its memory is worth more than half a second of imports
_FOLDERS = ("HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TMPDIR")  # for fonts


class _DrawingProcess(PipedProcess):
    """One drawing process; its methods block."""

    def __init__(self) -> None:
        super().__init__("app.drawing_process", kept=_FOLDERS)

    def draw(self, sketch: Sketch, plot_format: PlotFormat) -> bytes:
        """Let it draw and get the file."""
        with self._talking:
            self._send(pickle.dumps((sketch, plot_format)))
            (n_bytes,) = LENGTH.unpack(self._receive(LENGTH.size))
            file = bytes(self._receive(n_bytes))
        if not file:
            raise RuntimeError(f"{sketch.name} could not be drawn")
        return file


@dataclass(slots=True)
class Drawer:
    """At most one drawing process."""

    _process: _DrawingProcess | None = None
    _turns: asyncio.Lock | None = None
    _ending: asyncio.TimerHandle | None = None

    async def draw(self, sketch: Sketch, plot_format: PlotFormat) -> bytes:
        """Give the file of a figure.

        Raises:
            RuntimeError: It cannot be drawn, which is a defect.
        """
        self._turns = self._turns or asyncio.Lock()
        async with self._turns:
            if self._ending:
                self._ending.cancel()
            try:
                file = await self._draw(sketch, plot_format)
            except ProcessDiedError:  # killed from outside, perhaps long ago: once more
                file = await self._draw(sketch, plot_format)
            self._ending = asyncio.get_running_loop().call_later(_IDLE_S, self.close)
            return file

    async def _draw(self, sketch: Sketch, plot_format: PlotFormat) -> bytes:
        """Draw, and end the process if that fails or nobody waits for it any more."""
        process = self._process = self._process or _DrawingProcess()
        is_usable = False
        try:
            file = await to_thread.run_sync(
                process.draw, sketch, plot_format, abandon_on_cancel=True
            )
            is_usable = True
        finally:
            if not is_usable:
                self.close()
        return file

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.close()
            self._process = None
