# The web backend: answers from the store, queues the rest. No torch, nothing that computes, no pip.
#   make images IMAGES=web      or: docker build -f docker/web.Dockerfile -t mollm-web .
# A base of yours (one with Python 3.11 to 3.13 and its venv), or this one by its digest:
#   --build-arg BASE=python:3.11.14-slim-bookworm@sha256:...
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY backend/mollm_backend/locks/build.txt backend/mollm_backend/locks/web.txt locks/
RUN python3 -m venv tools && tools/bin/pip install --no-deps --require-hashes --only-binary :all: -r locks/build.txt
RUN python3 -m venv --without-pip /opt/mollm && tools/bin/pip --python /opt/mollm/bin/python \
    install --no-deps --require-hashes --only-binary :all: -r locks/web.txt
COPY pyproject.toml README.md LICENSE ./
COPY mollm mollm
COPY backend backend
RUN tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheel . && \
    tools/bin/pip --python /opt/mollm/bin/python install --no-deps wheel/*.whl

FROM ${BASE}
COPY --from=build /opt/mollm /opt/mollm
RUN mkdir /data && chown 1000:1000 /data
# The user has no line in /etc/passwd: what libraries ask for it (a name, a home to write to) stands here.
ENV PATH=/opt/mollm/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 \
    MOLLM_HOME=/data HOME=/data LOGNAME=mollm MOLLM_HOST=0.0.0.0 MOLLM_PORT=9090
USER 1000:1000
VOLUME /data
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['MOLLM_PORT'] + '/health', timeout=2)"]
CMD ["mollm", "web"]
