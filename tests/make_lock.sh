#!/bin/sh
# Writes the two lock files anew: the newest versions that pyproject.toml allows, with the hashes of all their
# files, for Python 3.11 and newer. Needs PYTHON and the network; read the difference before you commit it.
# requirements-build.lock is what builds packages from source, requirements-ci.lock what the tests use.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$PYTHON" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check uv

compile() { # OUTPUT ARGUMENT...: no header and no index, so that neither this machine nor a registry is named
    output=$1
    shift
    echo "# Made by \`make lock\`: do not edit. Each file that pip takes must have one of these hashes." >"$work/lock"
    "$work/venv/bin/uv" pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
        --no-header --no-emit-index-url --no-emit-find-links --no-config --annotation-style line "$@" >>"$work/lock"
    mv "$work/lock" "$output"
}
# Hatchling builds this package and editables links it; setuptools builds what is published as source alone.
printf 'hatchling>=1.26\neditables~=0.3\nsetuptools>=70.1\n' | compile requirements-build.lock -
compile requirements-ci.lock --constraints requirements-build.lock --extra test pyproject.toml
