"""The boundaries of k-means: bytes, HTTP, settings, commands."""
