# The web backend: answers from the store, queues the rest. No torch, no transformers.
#   docker build -f docker/web.Dockerfile -t mollm-web .
FROM python:3.11-slim

ENV MOLLM_HOME=/data PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
WORKDIR /app
COPY backend/mollm_backend/locks locks
RUN python -m pip install --no-deps --require-hashes --only-binary :all: -r locks/web.txt
COPY pyproject.toml README.md LICENSE ./
COPY mollm mollm
COPY backend backend
RUN python -m pip install --no-deps --no-build-isolation . && python -m pip check
RUN mkdir -p "$MOLLM_HOME" && chown 1000:1000 "$MOLLM_HOME"

# The user has no line in /etc/passwd: what libraries ask for it (a name, a home to write to) stands here.
ENV HOME=/data LOGNAME=mollm
USER 1000:1000
VOLUME /data
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD python -c "import urllib.request as r; r.urlopen('http://127.0.0.1:9090/health', timeout=2)"
CMD ["python", "-m", "gunicorn", "--config", "python:mollm_backend.supervisor.gunicorn_settings", "--bind", "0.0.0.0:9090"]
