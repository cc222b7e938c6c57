#!/usr/bin/env bash
# Installs what tests and benches use beside Python, quietly and only when missing.
#
# Debian programs where we are root; the other real servers only in CI, where no test may skip:
# elsewhere that is some hundred megabytes that nobody asked for, and tests say how to get them.
set -euo pipefail
BIN=${BIN:-.venv/bin}

debian() {
  local packages=()
  command -v prometheus >/dev/null || packages+=(prometheus)
  command -v redis-server >/dev/null || packages+=(redis-server)
  if [ ${#packages[@]} -eq 0 ]; then return 0; fi
  if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "not installed: ${packages[*]}; the tests that need them will skip" >&2
    return 0
  fi
  echo "installing ${packages[*]} (first time only)"
  local log
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  # The packages would start servers of their own; the tests start theirs.
  if ! { apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
    sed -E 's#https?://[^ ]+#(address)#g' "$log" | tail -5 >&2
    [ "${CI:-}" != true ] || exit 1
    echo "could not install ${packages[*]}; the tests that need them will skip" >&2
  fi
  rm -f "$log"
}

debian
if [ "${CI:-}" = true ] && [ -z "${FAST:-}" ]; then
  "$BIN/stagedoor" servers install >/dev/null
fi
