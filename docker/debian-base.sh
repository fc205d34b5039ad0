#!/bin/sh
# A base for the images from Debian's own packages, under the name that the Dockerfiles ask for. For machines that
# reach no image registry; needs root, debootstrap and podman (apt-get install debootstrap podman buildah).
#   docker/debian-base.sh [NAME]
# DEBIAN_MIRROR and DEBIAN_SUITE (a suite with Python 3.11 or newer) may be set; STORAGE_DRIVER=vfs where there is no
# overlay file system.
set -eu
name=${1:-$(sed -n 's/^ARG BASE=//p' "$(dirname "$0")/web.Dockerfile")}
root=$(mktemp -d)
trap 'for at in proc sys; do umount -l "$root/$at" 2>/dev/null || true; done; rm -rf --one-file-system "$root"' EXIT INT TERM
debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv \
    "${DEBIAN_SUITE:-bookworm}" "$root" "${DEBIAN_MIRROR:-}"
for at in proc sys; do umount -l "$root/$at" 2>/dev/null || true; done
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/* \
    "$root"/usr/share/locale/* "$root"/var/log/*
tar --one-file-system -C "$root" -c . | podman import --change 'CMD ["python3"]' - "docker.io/library/$name"
