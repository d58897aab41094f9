"""Two faults built into the engine: k=13 breaks it, k=14 finds no memory."""

import app.jobs

quantize = app.jobs.quantize


def faulty_quantize(pixels, k=64, **options):
    if k == 13:
        raise RuntimeError("a fault of the device, as asked for")
    if k == 14:
        raise MemoryError
    return quantize(pixels, k, **options)


def build_in():
    app.jobs.quantize = faulty_quantize
