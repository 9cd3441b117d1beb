#!/usr/bin/env bash
# Set up the virtual environment from the hashed lock file. Called by make; needs PYTHON and VENV.
set -euo pipefail

if ! command -v "$PYTHON" > /dev/null; then
  echo "setup: $PYTHON was not found; install Python 3.11 or newer, or name one: make PYTHON=python3.12 …" >&2
  exit 1
fi
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "setup: $PYTHON is $("$PYTHON" -V 2>&1); Python 3.11 or newer is needed: make PYTHON=python3.12 …" >&2
  exit 1
fi
if ! "$PYTHON" -c 'import venv, ensurepip' 2> /dev/null; then
  echo "setup: $PYTHON lacks the venv module; on Debian: apt-get install python3-venv" >&2
  exit 1
fi

echo "setup: installing into $VENV (once; half a minute to two minutes)"
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
quiet=(--quiet --disable-pip-version-check --no-input)

# uv is much the faster installer; where it cannot be had or cannot reach the registry, pip does the same from the same lock.
uv_lock=$(mktemp)
trap 'rm -f "$uv_lock"' EXIT
awk '/^uv==/ {on=1} on {print} on && !/\\$/ {exit}' requirements.lock > "$uv_lock"
if ! { "$VENV/bin/python" -m pip install "${quiet[@]}" --require-hashes --no-deps -r "$uv_lock" 2> /dev/null \
  && "$VENV/bin/uv" pip install --python "$VENV/bin/python" --quiet --require-hashes --compile-bytecode -r requirements.lock 2> /dev/null; }; then
  "$VENV/bin/python" -m pip install "${quiet[@]}" --require-hashes -r requirements.lock
fi
"$VENV/bin/python" -m pip install "${quiet[@]}" --no-deps --no-build-isolation --editable .
"$VENV/bin/python" -m compileall -q moderation_pipelines || true
