#!/bin/sh
# Puts the browser that tests/test_report_browser.py and the README's pictures need on this machine: Debian's
# Chromium, a font, without which a page shows boxes, and what WeasyPrint draws a PDF with. Needs root and apt-get; without them it does nothing, and
# the tests of the page in a browser skip. It takes about a minute, and a moment where both are there already.
set -eu

wanted=
command -v chromium >/dev/null || wanted="chromium"
for package in fonts-dejavu-core libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] ||
        wanted="$wanted $package"
done
if [ -z "$wanted" ]; then
    echo "install_browser: everything is there"
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "install_browser: not without root and apt-get; missing:$wanted" >&2
    exit 0
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export DEBIAN_FRONTEND=noninteractive
apt() {
    if ! apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@" </dev/null >"$log" 2>&1; then
        grep -E '^[EW]:|^dpkg: error' "$log" >&2 || tail -n 20 "$log" >&2
        return 1
    fi
}

apt update
# shellcheck disable=SC2086 # words are meant to be split
apt install -y --no-install-recommends --no-remove $wanted
echo "install_browser: done"
