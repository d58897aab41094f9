# gpu-kmeans as a service: docker build --build-arg DEVICE=cpu|cuda .
#
#   BASE_IMAGE       a Debian with the Python that constraints.txt was made with, in both stages
#   DEVICE           cpu: torch without CUDA; cuda: torch brings CUDA along, the host needs its driver only, and
#                    BASE_IMAGE a C compiler, or Triton cannot launch: python:3.11-bookworm rather than the slim one
#   TORCH_INDEX_URL  where torch alone is taken from; empty is pip's ordinary index, and so is nothing for cuda
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS builder
ARG DEVICE=cpu
ARG TORCH_INDEX_URL
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
RUN python3 -m venv /opt/gpu-kmeans
ENV PATH=/opt/gpu-kmeans/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt pyproject.toml ./
# The packages come before the source, so that a change of the source does not fetch them again.
RUN if [ "$DEVICE" = cpu ]; then default=https://download.pytorch.org/whl/cpu; else default=; fi \
    && index="${TORCH_INDEX_URL-$default}" \
    && if [ -n "$index" ]; then pip install --no-deps --constraint constraints.txt --index-url "$index" torch; fi \
    && python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        > requirements.txt \
    && pip install --constraint constraints.txt --requirement requirements.txt
COPY . .
RUN pip install --no-deps .

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="gpu-kmeans" \
      org.opencontainers.image.description="Exact k-means for colours and points: a web service" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 gpu-kmeans \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gpu-kmeans \
    && install --directory --owner gpu-kmeans --group gpu-kmeans /var/cache/gpu-kmeans
COPY --from=builder /opt/gpu-kmeans /opt/gpu-kmeans
ENV PATH=/opt/gpu-kmeans/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/var/cache/gpu-kmeans/numba \
    TRITON_CACHE_DIR=/var/cache/gpu-kmeans/triton \
    MPLCONFIGDIR=/var/cache/gpu-kmeans/matplotlib \
    GPU_KMEANS_HOST=0.0.0.0 \
    GPU_KMEANS_PORT=8000
USER 10001:10001
WORKDIR /tmp
# The server's own warm-up, so that the compiled kernels are in the image; and the list of fonts for plots.
RUN python3 -c 'import asyncio; from app.engine import Engine; asyncio.run(Engine("cpu").warm_up())' \
    && python3 -c 'import matplotlib.font_manager'
# A volume starts as a copy of the warm cache and stays writable where the root file system is not.
VOLUME /var/cache/gpu-kmeans
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["gpu-kmeans", "health"]
CMD ["gpu-kmeans", "serve"]
