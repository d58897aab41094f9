"""The process that draws: figures to be drawn come in by a pipe, files go out by another.

    parent                              this process
    a sketch and its format, pickled ->
                                   <-   length, the file; length 0 where drawing failed

A pickle may come from the parent, who is trusted; nothing that a client sent is run here. It knows
neither torch nor the engine, so that it is small. `app.drawer` is the parent.
"""

import os
import pickle
import resource
import sys
import traceback

import app.plots
from app.pipes import LENGTH
from app.sketches import PlotFormat, Sketch

_NICENESS = 5  # as the engine: whoever answers comes first


def main() -> None:
    """Draw until nobody asks any more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(_NICENESS)
    while True:
        try:
            sketch, plot_format = pickle.load(sys.stdin.buffer)  # noqa: S301 - our parent's
        except EOFError:
            return
        file = _file(sketch, plot_format)
        answers.write(LENGTH.pack(len(file)) + file)
        answers.flush()


def _file(sketch: Sketch, plot_format: PlotFormat) -> bytes:
    try:
        figure = getattr(app.plots, f"{sketch.name}_figure")(*sketch.arguments)
        return app.plots.write_figure(figure, plot_format)
    except Exception:  # noqa: BLE001 - the parent says that it failed, this says why
        traceback.print_exc()
        return b""


if __name__ == "__main__":
    main()
