#!/bin/sh
# Puts the Debian packages of the servers that tests/test_real_software.py scans on this machine, and starts none;
# and the programs that look over our shoulder: tshark and tcpdump read our captures, nmap is the second opinion.
# Needs root and apt-get; it takes about half a minute, and a moment where everything is there already.
# It is for machines that only test: where systemd runs, it would start the servers at the next boot.
#
# Two mail servers cannot be installed beside the first two (they conflict as mail-transport-agent and as
# imap-server), so their packages are unpacked into .servers/ and only their libraries installed. Nothing is
# ever removed: a package that would push out one that is there is left away, and its tests skip.
set -eu
cd "$(dirname "$0")/.."

installed="kamailio kamailio-tls-modules baresip-core postfix dovecot-imapd dovecot-pop3d nginx vsftpd snmpd tshark tcpdump nmap"
unpacked="exim4-base exim4-daemon-light courier-base courier-imap courier-pop courier-authlib"
libraries="libcourier-unicode4 libdb5.3 libgamin0 libgdbm6 libgnutls-dane0 libidn12 libltdl7 libnsl2 libpcre2-8-0 libpcre3"

wanted=
for package in $installed $libraries; do
    if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" != installed ]; then
        wanted="$wanted $package"
    fi
done
have=$(cat .servers/packages 2>/dev/null || true)
if [ -z "$wanted" ] && [ "$have" = "$unpacked" ]; then
    echo "install_servers: everything is there"
    exit 0
fi

work=$(mktemp -d)
policy=/usr/sbin/policy-rc.d
made_policy=no
clean_up() {
    if [ "$made_policy" = yes ]; then rm -f "$policy"; fi
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [ ! -e "$policy" ]; then # 101: an init script is not to be run, see invoke-rc.d(8)
    made_policy=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
apt() {
    if ! apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@" </dev/null >"$work/log" 2>&1; then
        grep -E '^[EW]:|^dpkg: error' "$work/log" >&2 || tail -n 20 "$work/log" >&2
        return 1
    fi
}
add() {
    apt install -y --no-install-recommends --no-remove "$@"
}

apt update
# shellcheck disable=SC2086 # words are meant to be split
if [ -n "$wanted" ] && ! add $wanted; then
    for package in $wanted; do # one that cannot be had does not cost the others
        add "$package" || echo "install_servers: without $package" >&2
    done
fi

if [ "$have" != "$unpacked" ]; then
    got=
    for package in $unpacked; do
        if (mkdir "$work/$package" && cd "$work/$package" && apt download -o APT::Sandbox::User=root "$package"); then
            dpkg -x "$work/$package"/*.deb "$work/servers"
            got="$got${got:+ }$package"
        else
            echo "install_servers: without $package" >&2
        fi
    done
    rm -rf .servers
    if [ -n "$got" ]; then
        echo "$got" >"$work/servers/packages"
        chmod -R a-s,go+rX "$work/servers" # nobody needs the mail servers' set-user-id bits here
        mv "$work/servers" .servers
    fi
fi
echo "install_servers: done"
