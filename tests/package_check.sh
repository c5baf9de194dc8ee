#!/bin/sh
# The packages alone: source archive and wheel are built twice, looked into, and each installed in a fresh environment
# and used away from this folder, so that a file that one of them forgot or a dependency that only developers have
# shows here and not at a partner's. Needs BIN, the development environment's bin. With LOCK, what the packages need
# has the versions and hashes of the lock files; without, it is the newest.
set -eu
BIN=$(cd "$BIN" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
unset PYTHONPATH
export SOURCE_DATE_EPOCH=1577836800 PIP_DISABLE_PIP_VERSION_CHECK=1

same() { # FILE FILE WHAT
    if ! cmp -s "$1" "$2"; then
        echo "package-check: $3" >&2
        exit 1
    fi
}
build() { # FOLDER OPTION...
    folder=$1
    shift
    "$BIN/python" -m build --no-isolation --outdir "$work/$folder" "$@" . >"$work/$folder.log" 2>&1 ||
        { cat "$work/$folder.log" >&2; exit 1; }
}
fresh() { # FOLDER PACKAGE: installed from the files that were fetched, and from nowhere else
    "$BIN/python" -m venv "$work/$1"
    "$work/$1/bin/python" -m pip install --quiet --no-index --find-links "$work/files" "$2"
    "$work/$1/bin/python" -m pip --quiet check
}

# The source archive and the wheel that comes of it, as they are published; then both from this folder.
build published & publishing=$!
(umask 077 && build again --sdist --wheel)
wait $publishing
archive=$(echo "$work"/published/*.tar.gz)
wheel=$(echo "$work"/published/*.whl)
same "$archive" "$work/again/$(basename "$archive")" "two builds of the source archive differ"
same "$wheel" "$work/again/$(basename "$wheel")" "the wheel from the source archive is not the one from this folder"
"$BIN/python" tests/package_contents.py "$archive" "$wheel"
(cd "$work/published" && sha256sum -- *)

if [ -n "${LOCK:-}" ]; then
    "$BIN/python" tests/dependencies.py >"$work/needed"
    "$BIN/python" -m pip download --quiet --require-hashes --no-deps --only-binary :all: --dest "$work/files" \
        --requirement "$work/needed" --requirement requirements-build.lock
else
    "$BIN/python" -m pip download --quiet --dest "$work/files" "$wheel" 'hatchling>=1.26'
    rm -f "$work"/files/exposure_scan-*
fi
fresh from-archive "$archive" & installing=$!
fresh from-wheel "$wheel"
wait $installing

cd "$work"
from-wheel/bin/exposure-scan --version
from-wheel/bin/exposure-scan --help >/dev/null
from-wheel/bin/exposure-scan demo --out demo >/dev/null
from-wheel/bin/exposure-scan verify demo/exposed-server/evidence.zip
for each in from-wheel from-archive; do
    $each/bin/exposure-scan report demo/exposed-server/scan.json --format html --out "$each.html"
done
from-archive/bin/exposure-scan practices >/dev/null
test -s from-wheel.html && test -s demo/index.html
same from-wheel.html from-archive.html "the two installations write different reports of the same scan"
echo "package-check: the wheel works alone, and so does the source archive"
