#!/bin/sh
# Make docker/secrets: one file for each secret of compose.yaml and kubernetes.yaml, what is there stays as it is.
#   docker/secrets.sh [DIRECTORY]
set -eu
directory=${1:-$(dirname "$0")/secrets}
mkdir -p "$directory"
chmod 700 "$directory" # nobody else comes this far; the files are for the containers' users too
cd "$directory"
word() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
made() { [ -e "$1" ] || printf %s "$2" > "$1"; chmod 444 "$1"; }
made MOLLM_BASIC_AUTH_PASSWORD "$(word)"
made MOLLM_WEBHOOK_SECRET "$(word)"
made POSTGRES_PASSWORD "$(word)"
made DATABASE_URL "postgresql+psycopg://mollm:$(cat POSTGRES_PASSWORD)@${POSTGRES_HOST:-postgres}/mollm"
made LABEL_STUDIO_API_KEY ""
chmod 644 LABEL_STUDIO_API_KEY # a token comes later, from Label Studio's Account & Settings
echo "$PWD: write a token of Label Studio into LABEL_STUDIO_API_KEY"
