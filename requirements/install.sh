#!/bin/sh
# Installs what a lock names: install.sh PYTHON LOCK [OPTION...]. By uv, in a fraction of pip's
# time; by pip where uv cannot be had, does not get through, or where pip was given an index that uv
# knows nothing of.
set -eu
python=$1 lock=$2 locks=$(dirname "$0")
shift 2
trap 'exit 130' INT
exec 3>&2
quiet=
if ! test -t 1; then
  quiet=--quiet
  exec 3>/dev/null
fi

pip() {
  "$python" -m pip install $quiet --disable-pip-version-check --require-hashes "$@"
}

by_uv() {
  case $("$python" -m pip config list) in *index*) return 1 ;; esac
  "$python" -m uv --version >/dev/null || pip --only-binary :all: -r "$locks/installer.lock" || return 1
  "$python" -m uv pip install $quiet --python "$python" --require-hashes --compile-bytecode -r "$lock" "$@"
}

by_uv "$@" 2>&3 || pip -r "$lock" "$@"
