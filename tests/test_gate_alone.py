"""Only the gate opens sockets. Read from the sources, so that what no test runs is held to it, too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "exposure_scan"
GATE = "transport/gate.py"
EXCEPTIONS = {
    "lab/": "the practice site: its devices listen, inside a private network that nothing leads out of",
    "vantage.py": "listens on a machine of the partner (`vantage serve`); only answers, and never more than it got",
    "deliver/": "hands mail to the partner's own mail server, and to nobody else",
    "scope/names.py": "asks the operator's own DNS resolver, through dnspython, before any target is known",
}

OPENERS = {
    "create_connection", "create_server", "create_datagram_endpoint", "create_unix_connection", "fromfd",
    "open_connection", "open_unix_connection", "sock_connect", "socketpair", "start_server", "start_unix_server",
}  # fmt: skip
CLIENTS = {
    "_socket", "aiohttp", "dns", "ftplib", "http.client", "http.server", "httpx", "imaplib", "poplib", "requests",
    "scapy.all", "scapy.arch", "scapy.automaton", "scapy.sendrecv", "scapy.supersocket", "smtplib", "socketserver",
    "telnetlib", "urllib.error", "urllib.request", "urllib3", "websockets", "xmlrpc",
}  # fmt: skip
SCAPY_SENDS = {"send", "sendp", "sendpfast", "sr", "sr1", "srp", "srp1", "srloop", "srploop", "sniff", "traceroute"}


def opens_sockets(source: str) -> list[str]:
    """What in a module can open a socket, in words, with its line."""
    found = []
    tree = ast.parse(source)
    names: dict[str, str] = {}  # what a name in the module stands for
    for node in ast.walk(tree):
        for line, local, whole in _imported(node):
            names[local] = whole
            client = any(whole == name or whole.startswith(f"{name}.") for name in CLIENTS)
            if (
                client
                or whole.rpartition(".")[2] in OPENERS
                or (whole.startswith("scapy.") and whole.rpartition(".")[2] in SCAPY_SENDS)
            ):
                found.append(f"{line}: imports {whole}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _whole(node.func, names) in ("socket.socket", "socket.SocketType"):
            found.append(f"{node.lineno}: opens a socket")
        elif isinstance(node, ast.ClassDef) and "socket.socket" in [_whole(base, names) for base in node.bases]:
            found.append(f"{node.lineno}: a socket of its own kind")
        elif isinstance(node, ast.Attribute | ast.Name) and _whole(node, names).rpartition(".")[2] in OPENERS:
            found.append(f"{node.lineno}: {_whole(node, names)}")
    return found


def _imported(node: ast.AST) -> Iterator[tuple[int, str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield node.lineno, alias.asname or alias.name.split(".")[0], alias.name
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        for alias in node.names:
            yield node.lineno, alias.asname or alias.name, f"{node.module}.{alias.name}"


def _whole(node: ast.expr, names: dict[str, str]) -> str:
    """``socket.socket`` for what the module may call otherwise; only the last part where it is a value's."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_whole(node.value, names)}.{node.attr}"
    return ""


def modules() -> dict[str, list[str]]:
    return {
        str(path.relative_to(PACKAGE)): opens_sockets(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def test_no_module_but_the_gate_opens_a_socket() -> None:
    wrong = {
        name: found
        for name, found in modules().items()
        if found and name != GATE and not name.startswith(tuple(EXCEPTIONS))
    }
    assert wrong == {}


def test_the_gate_and_every_exception_do_what_they_are_named_for() -> None:
    found = modules()
    assert found[GATE]
    for exception in EXCEPTIONS:
        assert any(what for name, what in found.items() if name.startswith(exception)), exception
    assert all("imports dns." in what for what in found["scope/names.py"])


@pytest.mark.parametrize(
    "source",
    [
        "import socket\nsocket.socket()",
        "import socket as s\nx = s.socket(s.AF_INET)",
        "from socket import socket\nsocket()",
        "from socket import socket as plug\nplug()",
        "from socket import create_connection",
        "import socket\nopening = socket.create_connection",
        "import socket\nsocket.create_server(('', 0))",
        "import socket\nclass Mine(socket.socket): ...",
        "import socket\na, b = socket.socketpair()",
        "import asyncio\nasync def f(): await asyncio.open_connection('h', 1)",
        "from asyncio import open_connection as go\nasync def f(): await go('h', 1)",
        "import asyncio\nasync def f(): await asyncio.start_server(f, 'h', 1)",
        "async def f(loop): await loop.create_datagram_endpoint(f)",
        "async def f(loop, s): await loop.sock_connect(s, ('h', 1))",
        "import asyncio\nasync def f(): await asyncio.get_running_loop().create_connection(f)",
        "import urllib.request",
        "from urllib import request",
        "import http.client",
        "from http import client",
        "def f():\n    import requests",
        "import smtplib",
        "import dns.asyncresolver",
        "from scapy.all import IP",
        "from scapy.sendrecv import sr1",
        "from scapy import sendrecv",
        "from scapy.layers.l2 import srp",
    ],
)
def test_a_module_that_opened_one_would_be_found(source: str) -> None:
    assert opens_sockets(source)


@pytest.mark.parametrize(
    "source",
    [
        "import socket\ndef f(s: socket.socket) -> None: s.send(b'')",
        "import socket\nx = socket.AF_INET",
        "from urllib.parse import quote",
        "from scapy.layers.inet import IP",
        "import http",
    ],
)
def test_a_module_that_only_uses_one_is_left_alone(source: str) -> None:
    assert opens_sockets(source) == []
