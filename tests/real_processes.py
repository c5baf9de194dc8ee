"""Real servers as peers: what each needs to run beside the tests without leaving a trace.

All that a server reads and writes lies in one folder, which is gone afterwards with the server and all its
processes. Where a package is not there, or a server needs users that this namespace does not have,
`Unavailable` says so.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from exposure_scan.lab.network import add_address

READY_SECONDS = 20.0  # on two busy cores; the slowest, Postfix, takes about two
LAST_SECONDS = 10.0  # from the kill to the last process's end, which takes the kernel a moment
UNPACKED = Path(__file__).parent.parent / ".servers"  # packages that cannot be installed beside others
NAME = "mail.lab.invalid"  # synthetic, in certificates too
PROGRAMS = f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{UNPACKED}/usr/sbin:{UNPACKED}/usr/bin"
# A first process that only waits: some servers, vsftpd among them, behave otherwise as number 1.
_ALONE = [
    *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--"),
    *("sh", "-c", '"$@"; exit $?', "first"),
]


class Unavailable(Exception):  # noqa: N818 - it is the machine's, not the test's
    """The server cannot run here; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that other users can pass through, a certificate in it, and a host's addresses of both families."""

    folder: Path
    certificate: Path  # PEM, the key first
    addresses: tuple[str, ...]

    def write(self, name: str, text: str) -> Path:
        """A file of the server's own, that any user may read."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
        return path

    def make(self, name: str, mode: int = 0o755) -> Path:
        """A folder of the server's own."""
        path = self.folder / name
        path.mkdir(parents=True)
        path.chmod(mode)
        return path

    def listening(self, *ports: str) -> list[tuple[str, str, int]]:
        """Each of the ports (`tcp/25`) at each of the addresses."""
        pairs = [port.split("/") for port in ports]
        return [(transport, address, int(port)) for address in self.addresses for transport, port in pairs]


@contextmanager
def place(number: int) -> Iterator[Place]:
    """The folder and the addresses of the host with this number.

    Not pytest's own folder: that one is closed to every other user, and the servers have several.
    """
    addresses = [f"198.18.90.{number}"]
    add(addresses[0])
    with suppress(OSError):  # a kernel without IPv6
        add(f"2001:db8:90::{number}")
        addresses.append(f"2001:db8:90::{number}")
    folder = Path(tempfile.mkdtemp(prefix="real-server-"))
    try:
        folder.chmod(0o755)
        yield Place(folder, _certificate(folder), tuple(addresses))
    finally:
        shutil.rmtree(folder)


def add(address: str) -> None:
    with suppress(FileExistsError):
        add_address(address)


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


# --- what is there --------------------------------------------------------------------------------


def program(name: str, package: str) -> str:
    """Where a program is.

    Raises:
        Unavailable: its package is not installed.
    """
    found = shutil.which(name, path=PROGRAMS)
    if found is None:
        raise Unavailable(f"Debian's package {package} is not there (tests/install_servers.sh)")
    return found


def needs_users(server: str) -> None:
    """For a server that runs as users of its own.

    Raises:
        Unavailable: this namespace has no other users.
    """
    mapped = sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines())
    if os.geteuid() != 0 or mapped < 65536:
        raise Unavailable(f"{server} runs as users of its own: this needs root, in a plain network namespace")


def with_user(where: Place, name: str, number: int) -> list[str]:
    """The words before a command that give it one more user and group, which it alone sees.

    For a program that looks up a user by the name it was built with, where its package cannot be installed.
    """
    lists = []
    for file, line in (
        ("passwd", f"{name}:x:{number}:{number}::/nonexistent:/bin/false"),
        ("group", f"{name}:x:{number}:"),
    ):
        text = Path("/etc", file).read_text(encoding="utf-8")
        lists.append(str(where.write(f"{file}.{len(list(where.folder.iterdir()))}", f"{text.rstrip()}\n{line}\n")))
    script = 'mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/group && shift 2 && exec "$@"'
    return ["sh", "-c", script, name, *lists]


# --- started and ended ----------------------------------------------------------------------------


@contextmanager
def running(
    where: Place, command: Sequence[str], ready: Sequence[tuple[str, str, int]], **environment: str
) -> Iterator[None]:
    """The server in the foreground, from the moment that it listens everywhere until it and all its children are gone.

    It is the first process of a namespace of processes, since a server may put its children into sessions of
    their own: when the first one ends, the kernel ends the others. They end with us too, however we end.
    """
    log = where.folder / f"{len(list(where.folder.iterdir()))}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*_ALONE, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=where.folder,
            env={"PATH": PROGRAMS, "LC_ALL": "C", "HOME": str(where.folder), **environment},
            start_new_session=True,
        )
    try:
        _await(process, ready, log)
        yield
    finally:
        _end(process)


def _await(process: subprocess.Popen[bytes], ready: Sequence[tuple[str, str, int]], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    for transport, address, port in ready:
        while not (_accepts if transport == "tcp" else _takes)(address, port):
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.02)  # a pause that ends with the process
                raise AssertionError(f"{process.args!r} ended with {process.returncode}:\n{_tail(log)}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{transport}/{port} of {address} is not served:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-3000:]


def _accepts(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
        sock.settimeout(1)
        return sock.connect_ex((address, port)) == 0


def _takes(address: str, port: int) -> bool:
    """Whether the kernel keeps a datagram: where nobody listens it says so at once, on the loopback device."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, port))
        try:
            sock.send(b"\r\n\r\n")  # a keep-alive to SIP, nothing to others
            sock.send(b"\r\n\r\n")
        except ConnectionRefusedError:
            return False
        return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the first process of the namespace; `unshare`, which waits for it, ends when the last one is gone."""
    for pid in _children(process.pid) or [process.pid]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(LAST_SECONDS)


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(path.parent.name))
    return found


# --- certificates ---------------------------------------------------------------------------------


def _certificate(folder: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "certificate.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    pem.chmod(0o644)  # of no worth to anybody
    return pem
