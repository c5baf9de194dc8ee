"""The private network that demo and tests run in: ``python -m exposure_scan.lab.namespace -- CMD ARGS...``.

Real ports at real-looking addresses, as an ordinary user, without touching any network: a fresh
network namespace has only its own loopback, and nothing leads out of it. This file enters one, gives
it the lab's addresses, makes sure that no way leads out, and only then runs the command there.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path

from . import network
from .devices import DEVICES

SCANNER = ("198.51.100.250", "2001:db8::250")  # where the scanner itself stands
DEAD_SPACE = ("198.51.100.0/24", "198.18.0.0/15", "2001:db8::/32")  # silent, but for what the lab owns
REFUSED = 70  # exit code, EX_SOFTWARE of sysexits.h
_MARK = "EXPOSURE_SCAN_NAMESPACE"
_USAGE = "usage: python -m exposure_scan.lab.namespace -- COMMAND [ARGUMENT]..."


class NamespaceRefused(Exception):  # noqa: N818 - it is the system's, not the program's
    """There is no private network to be had, or it would not be private; the text says what to do."""


def inside() -> bool:
    """Whether this process runs in a private network that the wrapper made and nothing leads out of."""
    if os.environ.get(_MARK) != "1":
        return False
    try:
        return not network.leading_out()
    except OSError:
        return False


def enter_and_run(argv: Sequence[str]) -> int:
    """Run a command in a fresh private network and return its exit code (128 + n for signal n).

    An interrupt reaches the command once, and is not an error here: the command decides its end.

    Raises:
        NamespaceRefused: the system forbids it; nothing was run.
    """
    reader, writer = os.pipe()
    wrapper = [sys.executable, "-m", "exposure_scan.lab.namespace", "--refusal-to", str(writer), "--", *argv]
    with open(reader, "rb") as refusal:
        try:
            process = subprocess.Popen(wrapper, pass_fds=(writer,))  # noqa: S603 - the caller's own command
        finally:
            os.close(writer)
        with process:
            words = b""
            while True:
                try:
                    words += refusal.read()  # ends when the command starts: the pipe closes with it
                    code = process.wait()
                    break
                except KeyboardInterrupt:
                    if not _in_foreground():  # a terminal has told the command already
                        process.send_signal(signal.SIGINT)
    if words:
        raise NamespaceRefused(words.decode())
    return code if code >= 0 else 128 - code


def explain(error: OSError) -> str:
    """What to enable on this system so that a private network can be made, as sentences."""
    hints = []
    if _setting("kernel/unprivileged_userns_clone") == "0":
        hints.append("allow it with: sysctl kernel.unprivileged_userns_clone=1")
    if _setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        hints.append("allow it with: sysctl kernel.apparmor_restrict_unprivileged_userns=0")
    hints += [
        f"allow it with: sysctl {key.replace('/', '.')}=1000"
        for key in ("user/max_user_namespaces", "user/max_net_namespaces")
        if _setting(key) == "0"
    ]
    if not hints and error.errno in (errno.EPERM, errno.EACCES):
        hints.append(
            "in a container the seccomp profile forbids it: start the container with --privileged, or with "
            "--security-opt seccomp=unconfined; or run this on the machine itself"
        )
    elif not hints and error.errno == errno.ENOSPC:
        hints.append("raise user.max_user_namespaces and user.max_net_namespaces with sysctl")
    elif not hints:
        hints.append("the kernel needs CONFIG_USER_NS and CONFIG_NET_NS")
    hints.append("or run this as root")
    return (
        f"This system gives no private network for the practice site ({error.strerror or error}). "
        f"To enable it, {'; '.join(hints)}."
    )


def enter() -> None:
    """Move this process into a fresh private network with the lab's addresses, and check that it is one.

    Raises:
        NamespaceRefused: the system forbids it, or a way leads out of what it gave.
    """
    try:
        before = network.own_namespace()
        network.unshare()
        # Before anything is changed, or it could be the machine's own network.
        check_private(before, network.own_namespace(), network.leading_out())
        network.bring_up()
        _furnish()
        check_private(before, network.own_namespace(), network.leading_out())
    except OSError as error:
        raise NamespaceRefused(explain(error)) from error
    os.environ[_MARK] = "1"


def check_private(before: str, after: str, ways: Sequence[str]) -> None:
    """Refuse a network that is the old one or that something leads out of.

    Raises:
        NamespaceRefused: with the reason.
    """
    if before == after:
        raise NamespaceRefused("The system said yes but left us in the same network; nothing was run.")
    if ways:
        raise NamespaceRefused(f"The new network is not private ({', '.join(ways)}); nothing was run.")


def _furnish() -> None:
    """The scanner's and the devices' addresses, and silence everywhere else."""
    owned = [*SCANNER, *(address for device in DEVICES for address in device.owned)]
    for address in owned:  # the scanner first: the kernel speaks from the first address
        if ":" not in address:
            network.add_address(address)
    for space in DEAD_SPACE:
        if ":" not in space:
            network.add_route(ip_network(space))
    try:
        for address in owned:
            if ":" in address:
                network.add_address(address)
        network.add_route(ip_network(DEAD_SPACE[-1]))
    except OSError:
        return  # a kernel without IPv6; the lab then speaks IPv4 alone


def _setting(key: str) -> str | None:
    try:
        return Path("/proc/sys", key).read_text(encoding="ascii").strip()
    except OSError:
        return None


def _in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def main(arguments: Sequence[str]) -> int:
    """Enter a private network and become the command; comes back only with an exit code.

    ``--refusal-to FD`` (for `enter_and_run`) writes a refusal to that descriptor instead of standard
    error; the descriptor closes when the command starts.
    """
    words = list(arguments)
    refusal_to = 2
    if words[:1] == ["--refusal-to"] and len(words) > 1 and words[1].isdigit():
        refusal_to = int(words[1])
        os.set_inheritable(refusal_to, False)
        words = words[2:]
    if words[:1] != ["--"] or len(words) < 2:
        os.write(2, f"{_USAGE}\n".encode())
        return 2
    try:
        enter()
    except NamespaceRefused as refused:
        os.write(refusal_to, f"{refused}{chr(10) if refusal_to == 2 else ''}".encode())
        return REFUSED
    try:
        os.execvp(words[1], words[1:])  # noqa: S606 - the caller's own command, without a shell
    except OSError as error:
        os.write(2, f"{words[1]}: {error.strerror}\n".encode())
        return 127 if isinstance(error, FileNotFoundError) else 126


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
