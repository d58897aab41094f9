# gpu-kmeans as a service: docker build --build-arg DEVICE=cpu|cuda .
#
#   BASE_IMAGE       a Debian with the Python that constraints.txt was made with, in both stages;
#                    with its digest (name:tag@sha256:...) where a build must be the same next year
#   DEVICE           cpu: torch without CUDA; cuda: torch brings CUDA along, the host needs its driver only, and
#                    BASE_IMAGE a C compiler, or Triton cannot launch: python:3.11-bookworm rather than the slim one
#   TORCH_INDEX_URL  where torch alone is taken from; empty is pip's ordinary index, and so is nothing for cuda
#   CPU              what the kernels are compiled for, as LLVM names it: an x86 with AVX2 or newer; generic runs
#                    on any, slower, and on other architectures
#   VERSION, REVISION  for the labels: of the release, and of the source (git rev-parse HEAD)
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS builder
ARG DEVICE=cpu
ARG TORCH_INDEX_URL
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
# hadolint ignore=DL3008
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/gpu-kmeans
ENV PATH=/opt/gpu-kmeans/bin:$PATH \
    PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY constraints.txt pyproject.toml ./
# The packages come before the source, so that a change of the source does not fetch them again.
# What only builds or tests them is taken out at once: headers, tests, symbols.
RUN if [ "$DEVICE" = cpu ]; then default=https://download.pytorch.org/whl/cpu; else default=; fi \
    && index="${TORCH_INDEX_URL-$default}" \
    && if [ -n "$index" ]; then pip install --no-compile --no-deps --constraint constraints.txt --index-url "$index" torch; fi \
    && python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        > requirements.txt \
    && pip install --no-compile --constraint constraints.txt --requirement requirements.txt \
    && site="$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && find "$site" -type d -name tests -prune -exec rm -rf {} + \
    && rm -rf "$site/torch/include" "$site/torch/share" "$site/torch/test" \
    && find "$site/torch/bin" -type f ! -name torch_shm_manager -delete \
    && strip --strip-unneeded "$site"/torch/lib/*.so "$site"/llvmlite/binding/*.so
COPY . .
RUN pip install --no-compile --no-deps . && pip uninstall --yes --quiet pip
# What the service does is done once, so that the image holds the compiled kernels, the list of fonts
# and the bytecode of what is used, which is a fifth of all. Kernels for the builder's own processor
# would be compiled again on every other one.
ARG CPU=x86-64-v3
ENV NUMBA_CPU_NAME=${CPU} \
    NUMBA_CPU_FEATURES= \
    NUMBA_CACHE_DIR=/var/cache/gpu-kmeans/numba \
    MPLCONFIGDIR=/var/cache/gpu-kmeans/matplotlib
WORKDIR /tmp
RUN photo=/src/app/web/sample/flower.jpg \
    && python3 -c 'import asyncio, app.main, app.server; from app.engine import Engine; asyncio.run(Engine("cpu").warm_up())' \
    && python3 -c 'from gpu_kmeans import KMeans' \
    && gpu-kmeans compress "$photo" --output dithered.png --dither 1 --space oklab -k 8 \
    && gpu-kmeans compress "$photo" --output small.webp -k 8 \
    && gpu-kmeans elbow "$photo" --plot curve.svg --k-max 4 \
    && gpu-kmeans elbow "$photo" --plot curve.png --k-max 4 \
    && gpu-kmeans palette "$photo" --output palette.json -k 8 \
    && printf '0,0\n0,1\n9,9\n9,8\n' | gpu-kmeans cluster - -k 2

FROM ${BASE_IMAGE}
ARG CPU=x86-64-v3
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gpu-kmeans" \
      org.opencontainers.image.description="Exact k-means for colours and points: a web service" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 gpu-kmeans \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gpu-kmeans
COPY --from=builder /opt/gpu-kmeans /opt/gpu-kmeans
COPY --from=builder --chown=10001:10001 /var/cache/gpu-kmeans /var/cache/gpu-kmeans
ENV PATH=/opt/gpu-kmeans/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CPU_NAME=${CPU} \
    NUMBA_CPU_FEATURES= \
    NUMBA_CACHE_DIR=/var/cache/gpu-kmeans/numba \
    MPLCONFIGDIR=/var/cache/gpu-kmeans/matplotlib \
    TRITON_CACHE_DIR=/var/cache/gpu-kmeans/triton \
    GPU_KMEANS_HOST=0.0.0.0 \
    GPU_KMEANS_PORT=8000
USER 10001:10001
# A volume starts as a copy of the warm cache and stays writable where the root file system is not.
VOLUME /var/cache/gpu-kmeans
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["gpu-kmeans", "health"]
CMD ["gpu-kmeans", "serve"]
