"""The private network: what the wrapper passes through, what it refuses, and for whom it works."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from exposure_scan import lab
from exposure_scan.lab import namespace, network

ROOT = Path(__file__).parent.parent
WRAPPER = [sys.executable, "-m", "exposure_scan.lab.namespace"]

ROUTES4 = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
LAB4 = "lo\t006433C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
WAY_OUT4 = "eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
ZERO = "0" * 32
REJECT6 = f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo\n"
WAY_OUT6 = f"{ZERO} 00 {ZERO} 00 fe80{'0' * 27}1 00000400 00000001 00000000 00000003     eth0\n"

LOOK = """
import json, os, socket
from exposure_scan import lab
print(json.dumps({"inside": lab.inside(), "uid": os.getuid(), "net": os.readlink("/proc/self/ns/net"),
                  "interfaces": [name for _, name in socket.if_nameindex()]}))
"""


def run(*words: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*WRAPPER, *words], cwd=ROOT, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload, no-any-return]


def test_the_command_runs_in_another_network_with_nothing_but_loopback() -> None:
    ended = run("--", sys.executable, "-c", LOOK)
    assert ended.stderr == ""
    seen = json.loads(ended.stdout)
    assert seen["inside"] is True
    assert seen["net"] != network.own_namespace()
    assert seen["interfaces"] == ["lo"]
    assert seen["uid"] == 0


@pytest.mark.parametrize("code", [0, 1, 3, 70])
def test_the_exit_code_passes_through(code: int) -> None:
    assert run("--", "sh", "-c", f"exit {code}").returncode == code
    assert lab.enter_and_run(["sh", "-c", f"exit {code}"]) == code


def test_a_command_that_a_signal_ended_gives_the_shell_s_code() -> None:
    assert lab.enter_and_run(["sh", "-c", "kill -TERM $$"]) == 128 + signal.SIGTERM


def test_a_command_that_does_not_exist() -> None:
    ended = run("--", "no-such-command-here", env={**os.environ, "PATH": "/usr/bin:/bin"})
    assert ended.returncode == 127
    assert "no-such-command-here: No such file" in ended.stderr


@pytest.mark.parametrize("words", [(), ("--",), ("true",), ("--refusal-to", "x", "--", "true")])
def test_wrong_use_is_told(words: tuple[str, ...]) -> None:
    ended = run(*words)
    assert ended.returncode == 2
    assert ended.stderr.startswith("usage:")


def test_an_interrupt_reaches_the_command_which_decides_its_end() -> None:
    child = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(5))\n"
        "print('up', flush=True)\n"
        "while True: signal.pause()\n"
    )
    parent = (
        "import sys\nfrom exposure_scan.lab import enter_and_run\n"
        f"sys.exit(enter_and_run([sys.executable, '-c', {child!r}]))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"up\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 5
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)  # a session of its own: the two that we started


def test_the_command_inherits_nothing_of_the_wrapper() -> None:
    script = "import os, sys; sys.exit(len(os.listdir('/proc/self/fd')))"  # 0, 1, 2 and the listing itself
    assert lab.enter_and_run([sys.executable, "-c", script]) == 4


def test_an_ordinary_user_may_enter() -> None:
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        pytest.skip("run by an ordinary user already: this whole run is the proof")
    nobody = 65534

    def as_nobody(python: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, *words],
            cwd="/",
            env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]},
            user=nobody,
            group=nobody,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )

    for python in (sys.executable, "/usr/bin/python3"):
        try:
            able = as_nobody(python, "-c", "import sys, exposure_scan.lab; sys.exit(sys.version_info < (3, 11))")
        except OSError:
            continue
        if able.returncode == 0:
            break
    else:
        pytest.skip("no Python 3.11 and checkout that the user nobody can read")
    ended = as_nobody(python, "-m", "exposure_scan.lab.namespace", "--", python, "-c", LOOK)
    assert ended.stderr == ""
    assert json.loads(ended.stdout)["inside"] is True


def test_a_system_that_forbids_it_is_told_what_to_enable() -> None:
    # The limit below is one of the new user namespace alone; the machine's own stays as it is.
    script = (
        "import ctypes, os, sys\n"
        "uid, gid = os.geteuid(), os.getegid()\n"
        "if ctypes.CDLL(None).unshare(0x10000000): sys.exit(99)\n"
        "for name, text in (('setgroups', 'deny'), ('uid_map', f'0 {uid} 1'), ('gid_map', f'0 {gid} 1')):\n"
        "    with open('/proc/self/' + name, 'w') as file: file.write(text)\n"
        "with open('/proc/sys/user/max_net_namespaces', 'w') as file: file.write('0')\n"
        "from exposure_scan import lab\n"
        "try: lab.enter_and_run(['echo', 'ran'])\n"
        "except lab.NamespaceRefused as refused: print('refused:', refused, flush=True)\n"
        "words = [sys.executable, '-m', 'exposure_scan.lab.namespace', '--', 'echo', 'ran']\n"
        "os.execv(sys.executable, words)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode == 99:
        pytest.skip("no user namespace to be had here, so no limit can be set")
    assert ended.returncode == namespace.REFUSED
    assert ended.stdout.startswith("refused: This system gives no private network")
    assert "sysctl user.max_net_namespaces=" in ended.stdout
    assert "sysctl user.max_net_namespaces=" in ended.stderr
    assert "ran" not in ended.stdout.split()


def test_without_the_wrapper_s_mark_nobody_is_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPOSURE_SCAN_NAMESPACE", raising=False)
    assert not lab.inside()


def test_the_mark_alone_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPOSURE_SCAN_NAMESPACE", "1")
    monkeypatch.setattr(network, "leading_out", lambda: ["interface eth0"])
    assert not lab.inside()
    monkeypatch.setattr(network, "leading_out", list)
    assert lab.inside()


def in_a_new_network(script: str, out: Path) -> str:
    """Run a script as root of an empty network and return what it said."""
    words = ["sh", "-c", f'"$0" -c "$1" >"{out}" 2>&1', sys.executable, script]
    assert lab.enter_and_run(words) == 0, out.read_text()
    return out.read_text()


def test_an_interface_that_could_lead_out_ends_the_privacy(tmp_path: Path) -> None:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("no /dev/net/tun here to make an interface with")
    script = (
        "import fcntl, struct\nfrom exposure_scan import lab\nfrom exposure_scan.lab import network\n"
        "tun = open('/dev/net/tun', 'rb+', buffering=0)\n"
        "fcntl.ioctl(tun, 0x400454CA, struct.pack('16sH22x', b'way0', 0x1001))\n"
        "print(lab.inside())\nnetwork.bring_up('way0')\nprint(lab.inside(), network.leading_out())\n"
    )
    assert in_a_new_network(script, tmp_path / "out") == "True\nFalse ['interface way0']\n"


def test_a_system_that_leaves_us_where_we_were_is_refused_before_anything_is_changed(tmp_path: Path) -> None:
    script = (
        "from exposure_scan.lab import namespace, network\n"
        "network.unshare()\nnetwork.unshare = lambda: None\n"
        "try: namespace.enter()\n"
        "except namespace.NamespaceRefused as refused: print(refused, network._flags('lo') & 1)\n"
    )
    assert "left us in the same network; nothing was run. 0" in in_a_new_network(script, tmp_path / "out")


def test_a_new_network_with_a_way_out_runs_nothing(tmp_path: Path) -> None:
    script = (
        "from exposure_scan.lab import namespace, network\n"
        "ways = [[], ['IPv4 default route through eth0']]  # none at first, one when all is set up\n"
        "network.leading_out = lambda: ways.pop(0)\n"
        "print(namespace.main(['--', 'echo', 'ran']))\n"
    )
    said = in_a_new_network(script, tmp_path / "out")
    assert "not private (IPv4 default route through eth0)" in said
    assert said.splitlines()[-1] == str(namespace.REFUSED)
    assert "ran" not in said.split()


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "ways"),
    [
        (ROUTES4 + LAB4, REJECT6, []),
        (ROUTES4, "", []),
        (ROUTES4 + LAB4 + WAY_OUT4, REJECT6, ["IPv4 default route through eth0"]),
        (ROUTES4 + LAB4, REJECT6 + WAY_OUT6, ["IPv6 default route through eth0"]),
        (ROUTES4 + WAY_OUT4.replace("0003", "0201"), "", []),  # a reject route leads nowhere
    ],
)
def test_default_routes_are_found(ipv4: str, ipv6: str, ways: list[str]) -> None:
    assert network.default_routes(ipv4, ipv6) == ways


def test_a_network_with_a_way_out_is_refused() -> None:
    namespace.check_private("net:[1]", "net:[2]", [])
    with pytest.raises(lab.NamespaceRefused, match="IPv4 default route through eth0"):
        namespace.check_private("net:[1]", "net:[2]", network.default_routes(ROUTES4 + WAY_OUT4, ""))
    with pytest.raises(lab.NamespaceRefused, match="same network"):
        namespace.check_private("net:[1]", "net:[1]", [])


@pytest.mark.parametrize(
    ("settings", "number", "advice"),
    [
        ({"kernel/unprivileged_userns_clone": "0"}, errno.EPERM, "kernel.unprivileged_userns_clone=1"),
        (
            {"kernel/apparmor_restrict_unprivileged_userns": "1"},
            errno.EPERM,
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ({"user/max_user_namespaces": "0"}, errno.ENOSPC, "user.max_user_namespaces="),
        ({}, errno.EPERM, "seccomp"),
        ({}, errno.ENOSPC, "raise user.max_user_namespaces"),
        ({}, errno.EINVAL, "CONFIG_USER_NS"),
    ],
)
def test_the_advice_fits_the_system(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], number: int, advice: str
) -> None:
    monkeypatch.setattr(namespace, "_setting", settings.get)
    assert advice in lab.explain(OSError(number, os.strerror(number)))
