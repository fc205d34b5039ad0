#!/bin/sh
# Build images with the engine that is there: docker, podman, or buildah, which needs no engine running and, with
# --isolation chroot, no namespaces. `make images` calls it.
#   docker/images.sh [web] [worker] [worker-cuda]         (default: web worker)
# worker takes torch from TORCH_INDEX_URL (an index with a CPU build); worker-cuda takes PyPI's, which is the CUDA build.
# ENGINE, BASE (the base image, with a digest if you like), TAG and BUILD_OPTIONS (words for the engine) may be set.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- web worker
TAG=${TAG:-$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)}

answers() { command -v "$1" >/dev/null && "$@" >/dev/null 2>&1; }
if [ -z "${ENGINE:-}" ]; then
    if answers docker info; then ENGINE=docker
    elif command -v buildah >/dev/null; then ENGINE=buildah
    elif answers podman info; then ENGINE=podman
    else echo "no docker, podman or buildah: install one of them (apt-get install buildah podman)" >&2; exit 1
    fi
fi
case $ENGINE in
docker) build="docker build" ;;
podman) build="podman build --format docker" ;;
# Only the format docker keeps the health check.
buildah) build="buildah build --isolation chroot --format docker --layers" ;;
*) echo "ENGINE=$ENGINE is not docker, podman or buildah" >&2; exit 1 ;;
esac

for image; do
    index=
    case $image in
    web) file=web ;;
    worker) file=worker index=${TORCH_INDEX_URL:-} ;;
    worker-cuda) file=worker ;;
    *) echo "there is no image $image: web, worker, worker-cuda" >&2; exit 1 ;;
    esac
    echo "building mollm-$image:$TAG with $ENGINE"
    # shellcheck disable=SC2086  # words for the engine
    $build --file "docker/$file.Dockerfile" --tag "mollm-$image:$TAG" ${BASE:+--build-arg "BASE=$BASE"} \
        ${index:+--build-arg "TORCH_INDEX_URL=$index"} ${BUILD_OPTIONS:-} .
done
