#!/usr/bin/env bash
# Installs the Debian programs that some tests and benches use, quietly and only when missing.
# Elsewhere than on Debian, or without root, those tests skip and say what to install.
set -euo pipefail
packages=()
command -v prometheus >/dev/null || packages+=(prometheus)
if [ ${#packages[@]} -eq 0 ]; then exit 0; fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
  echo "not installed: ${packages[*]}; the tests that need them will skip" >&2
  exit 0
fi
echo "installing ${packages[*]} (first time only)"
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
# The package would start a server of its own; the tests start theirs.
if ! { apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
  sed -E 's#https?://[^ ]+#(address)#g' "$log" | tail -5 >&2
  [ "${CI:-}" != true ] || exit 1
  echo "could not install ${packages[*]}; the tests that need them will skip" >&2
fi
rm -f "$log"
