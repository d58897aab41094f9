"""Fast on CUDA, by Triton kernels: see `backend` for the contract, `passes` for the hot loop.

Only this package imports Triton, and nothing imports this package but the choice of a backend.
"""
