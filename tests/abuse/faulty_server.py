"""The real command with two faults built in: k=13 breaks the engine, k=14 finds no memory."""

import app.jobs
from app.cli import main

quantize = app.jobs.quantize


def faulty_quantize(pixels, k=64, **options):
    if k == 13:
        raise RuntimeError("a fault of the device, as asked for")
    if k == 14:
        raise MemoryError
    return quantize(pixels, k, **options)


if __name__ == "__main__":
    app.jobs.quantize = faulty_quantize
    main(["serve"])
