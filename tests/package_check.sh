#!/bin/sh
# The wheel alone: built, installed in a fresh environment and used away from this folder, so that a file
# that the wheel forgot or a dependency that only developers have shows here and not at a partner's.
# Needs BIN (the development environment's bin) and PYTHON.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$BIN/python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$work" .
"$PYTHON" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$work"/*.whl
cd "$work"
"$work/venv/bin/exposure-scan" --version
"$work/venv/bin/exposure-scan" --help >/dev/null
"$work/venv/bin/exposure-scan" demo --out "$work/demo" >/dev/null
"$work/venv/bin/exposure-scan" verify "$work/demo/exposed-server/evidence.zip"
"$work/venv/bin/exposure-scan" report "$work/demo/exposed-server/scan.json" --format html --out "$work/report.html"
test -s "$work/report.html" && test -s "$work/demo/index.html"
echo "package-check: the wheel works alone"
