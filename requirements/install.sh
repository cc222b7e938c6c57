#!/usr/bin/env bash
# Installs what a lock names: install.sh PYTHON LOCK [OPTION...]. By uv, in a tenth of pip's time; by
# pip where uv cannot be had, does not get through, or where pip was given an index that uv knows
# nothing of.
set -euo pipefail
python=$1 lock=$2 locks=$(dirname "$0")
shift 2
quiet=--quiet errors=/dev/null
if test -t 1; then quiet='' errors=/dev/stderr; fi

pip() {
  "$python" -m pip install $quiet --disable-pip-version-check --require-hashes "$@"
}

by_uv() {
  if "$python" -m pip config list | grep -q index; then return 1; fi
  "$python" -m uv --version >/dev/null 2>&1 || pip --only-binary :all: -r "$locks/installer.lock" || return 1
  "$python" -m uv pip install $quiet --python "$python" --require-hashes --compile-bytecode -r "$lock" "$@"
}

by_uv "$@" 2>"$errors" || pip -r "$lock" "$@"
