"""Measurements: one file answers one question.

| file | question |
| --- | --- |
| `bench_quantize.py` | How fast, how good and how frugal is `quantize` beside its peers? |
| `bench_growth.py` | How do time and memory grow with the picture? |
| `bench_steps.py` | Where does the time go, and what does the first use cost? |
| `bench_tables.py` | How fast are tables of numbers clustered, beside scikit-learn? |
| `bench_gpu.py` | Are the answers on CUDA those of the CPU, and how fast do they come? |

`make bench` runs the first four, `make bench-gpu` the last. All of them take `--quick`, `--full`
and `--out FOLDER`, print Markdown, and write it, with the raw figures as JSON, to
`benchmarks/results/`.
"""
