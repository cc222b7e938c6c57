#!/usr/bin/env bash
# Rewrites the locks from their .in files: versions and hashes, no addresses.
set -euo pipefail
cd "$(dirname "$0")"
command -v uv >/dev/null || { echo "lock.sh needs uv: python3 -m pip install uv" >&2; exit 2; }
lock() {
  local name=$1
  shift
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-header "$@" "$name.in" -o "$name.lock"
}
lock runtime
lock dev
lock installer
# What compiles the hot path is the mypy that checks it.
lock build -c dev.lock
