"""Fast on CUDA: see `backend` for the contract, `program` for CUDA C++, `passes` for Triton.

Pictures are fitted by the kernels of `sources`, in CUDA C++. Triton's kernels serve other points,
and pictures where CUDA C++ does not compile. Only this package imports Triton, and nothing imports
this package but the choice of a backend.
"""
