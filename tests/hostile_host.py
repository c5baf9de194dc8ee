"""One host whose every word is an attack on whoever reads it, on real sockets. All of it is synthetic."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from threading import Thread

from exposure_scan.lab import answers
from exposure_scan.lab.devices import Device, Service
from exposure_scan.lab.network import add_address
from exposure_scan.lab.services import serve

ADDRESS = "198.18.93.66"
MARKER = "owned-4711"  # what an attack would leave behind where it worked
SCRIPT = f"<script>document.title='{MARKER}'</script><img src=http://evil.example/x onerror=document.title='{MARKER}'>"
CUT = "\x1b]52;c;b3duZWQ=\x07\x1b]8;;http://evil.example\x1b\\x\x1b]0;t\x07\x1b[35;7m\x9b2J\u202egnp.exe\u200b\x00\x7f\x85\u2028"
# Short enough to be shown whole: a reader sees that it came, and nothing else comes of it.
WORDS = (
    f"Synthex {CUT}{SCRIPT}",
    "Synthex =cmd|'/c calc'!A0 [bold red]x[/] {{7*7}} {% raw %} [a](http://evil.example) ![b](http://evil.example)",
    "Synthex \"\"\" ''' ] [pack] x=\\ ../../../etc/passwd $(id) `id` %n =?utf-8?q?=0ABcc:_a@evil.example?= @owner #12",
    '=HYPERLINK("http://evil.example")',
)
HEADERS = "\r\nBcc: a@evil.example\r\n\r\nbody"
LONG = "A" * 1_000_000
NAME = "x\x1b[2J<b>'\"=1"  # in a certificate, where names have at most 64 characters

_PAGE = (
    f'HTTP/1.0 401 Unauthorized\r\nServer: {WORDS[0]}\r\nWWW-Authenticate: Basic realm="{WORDS[2]}"\r\n'
    f"Location: javascript:alert(1)\r\n\r\n<title>{WORDS[1]}</title>{LONG}"
)
DEVICE = Device(
    NAME,
    ADDRESS,
    (ADDRESS,),
    (
        Service("tcp", 25, "smtp", f"220 mail.invalid {WORDS[0]} ESMTP{HEADERS}\r\n".encode()),
        Service("tcp", 110, "pop3", f"+OK {WORDS[1]}{LONG}\r\n".encode()),
        Service("tcp", 143, "imap", f"* OK IMAP4rev1 {WORDS[2]}\r\n".encode()),
        Service("tcp", 80, "http", _PAGE.encode()),
        Service(
            "tcp", 8080, "http", f"HTTP/1.0 200 OK\r\nServer: {WORDS[3]}\r\n\r\n<title>{WORDS[3]}</title>".encode()
        ),
        Service("tls", 5061, "sip"),
    ),
)


class _Sip(asyncio.DatagramProtocol):
    """A valid answer, with who it is."""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = answers.sip(data, peer=addr, own=(ADDRESS, 5060), transport="udp")
        who = f"Server: {WORDS[0]}\r\nUser-Agent: {WORDS[1]}\r\nX-More: {'A' * 900}\r\nContent-Length".encode()
        self._transport.sendto(answer.replace(b"Content-Length", who), addr)


@contextmanager
def running() -> Iterator[None]:
    """The host, up while the block runs, in a loop of its own."""
    with suppress(FileExistsError):
        add_address(ADDRESS)
    loop = asyncio.new_event_loop()
    ready: Future[asyncio.Event] = Future()

    async def main() -> None:
        over = asyncio.Event()
        sip, _ = await loop.create_datagram_endpoint(_Sip, local_addr=(ADDRESS, 5060))
        try:
            async with serve([DEVICE]):
                ready.set_result(over)
                await over.wait()
        finally:
            sip.close()

    def work() -> None:
        try:
            loop.run_until_complete(main())
        except BaseException as error:
            ready.set_exception(error)
        finally:
            loop.close()

    thread = Thread(target=work, daemon=True)
    thread.start()
    over = ready.result(20)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(20)
