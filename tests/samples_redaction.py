"""Scans for the tests of the customer's copy: synthetic answers that are full of what it must not show."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from conversations import Moment, Said, hold

from exposure_scan import sweep
from exposure_scan.conversation import Caller, End, Exchange
from exposure_scan.model import Host, Port, PortState, Question, Scan
from exposure_scan.report import load_scan

LAB = Path(__file__).parent.parent / "pcaps" / "lab"
SITES = sorted(path.stem for path in LAB.glob("*.json"))


def lab(site: str) -> Scan:
    return load_scan((LAB / f"{site}.json").read_text())


def answering(scan: Scan, key: str, probe: str, answer: bytes | Callable[[bytes], bytes], **more: object) -> Scan:
    """The scan as it would be, had a port answered so: a stream's greeting, or the answer to what is sent."""
    transport, port = key.split("/")
    caller = Caller(f"exposure-scan/{scan.scanner.version}", scan.partner["mail"])
    greets = isinstance(answer, bytes) and transport == "tcp" and not answer.startswith((b"HTTP", b"SIP"))

    def peer(moment: Moment) -> Sequence[Said]:
        if greets and moment.words:
            return [(moment.words.startswith(b"EHLO") and EHLO) or b"221 bye\r\n"]
        if bool(moment.words) is greets:
            return ()
        return [answer if isinstance(answer, bytes) else answer(moment.words), *([] if greets else [End.CLOSED])]

    address = scan.hosts[0].address
    talk = hold(probe, peer, port=int(port), address=address, caller=caller, **more)  # type: ignore[arg-type]
    question = Question("tcp" if transport == "tcp" else "udp", int(port), probe)
    reason = "syn-ack" if transport == "tcp" else "udp-reply"
    exchange = Exchange(
        question, PortState.OPEN, reason, address, 1, 1.0, talk.observation, scan.started, tuple(talk.events)
    )
    proof = exchange.evidence(f"planted-{transport}-{port}", address, "00c0ffee00c0ffee")
    others = [one for one in scan.evidence if (one.kind, str(one.port)) != (transport, port)]
    return sweep.rederive(scan.model_copy(update={"evidence": (*others, proof)}))


def port_of(scan: Scan, key: str) -> Port:
    return next(port for port in scan.hosts[0].ports if port.key == key)


def judgement(scan: Scan) -> object:
    def of_host(host: Host) -> object:
        classes = [device.class_ for device in (host.device, *host.also)]
        ports = [(port.key, port.state, port.service, port.product) for port in host.ports]
        return host.address, classes, host.alive.proven, ports

    statuses = [(finding.practice, finding.host, finding.status) for finding in scan.findings]
    return scan.verdict, [of_host(host) for host in scan.hosts], statuses


# --- what is planted ------------------------------------------------------------------------------

HOST = b"pbx.customer-synthetic.example"
EHLO = (
    b"250-mail7.customer-synthetic.example greets exposure-scan.invalid\r\n"
    b"250-XHOST imap9.customer-synthetic.example\r\n250 DSN\r\n"
)
SECRETS = (
    # names of hosts, with dots and without
    "customer-synthetic", "pbx.customer", "mail7", "imap9", "web3.", "cgi4.", "synthpbx-12", "proxy5.", "sipnode8",
    "media6.", "backend-77", "frontend-3", "Synthetic Dental", "nas1-synthetic", "tunnel-host-2", "ns1-synthetic",
    "jane.doe",
    # nonces
    "5f1d0c7e9a", "0paqu3-77", "c00kie99aa", "csrf-0a1b2c", "8d2f11-sess", "1896.697170952", "s1pn0nce44",
    # hardware addresses
    "00:0a:dd:11:22:33", "00-0A-DD-11-22-34", "000a.dd11.2235", "000add112236", "00 0A DD 11 22 37", "0:a:dd:1:2:8",
    "00:0A:DD:FF:FE:11:22:39", "20a:ddff:fe11:2240", "000add-112241",
    # serials
    "SYN7654321", "9988776", "AB-12-99", "Q2SYN-77-1", "FGT60D4615012345", "77120045", "1b9d6bcd-bbfd-4b2d-9b5d",
    "0123456789abcdef0123456789abcdef", "80001f8803000add112250", "c0ffee5e71a1",
)  # fmt: skip

PAGE = (
    b"HTTP/1.0 401 Unauthorized\r\nAccept-Ranges: none\r\nServer: IST OIS\r\n"
    b"Location: https://web3.customer-synthetic.example/login?session=8d2f11-sess\r\n"
    b'WWW-Authenticate: Digest realm="users@' + HOST + b'", nonce="5f1d0c7e9a", opaque="0paqu3-77"\r\n'
    b"Set-Cookie: sid=c00kie99aa; Path=/; Domain=customer-synthetic.example\r\n"
    b"X-Backend-Server: backend-77\r\nX-FEServer: frontend-3\r\n\r\n"
    b"<html><head><title>Allworx of customer-synthetic 000add112236</title></head><body>\n"
    b'<a href="//cgi4.customer-synthetic.example/">x</a> <a href="http://synthpbx-12/">y</a>\n'
    b'<input type="hidden" name="csrf_token" value="csrf-0a1b2c">\n'
    b"mail jane.doe@customer-synthetic.example, cert for *.customer-synthetic.example\n"
    b"<td>MAC</td><td>000add-112241</td> 00:0a:dd:11:22:33 00-0A-DD-11-22-34 000a.dd11.2235\n"
    b"MAC address: 00 0A DD 11 22 37, 0:a:dd:1:2:8, 00:0A:DD:FF:FE:11:22:39, fe80::20a:ddff:fe11:2240\n"
    b"S/N SYN7654321, serial: 9988776, Serial&nbsp;No.:&nbsp;AB-12-99 FGT60D4615012345\n"
    b'{"serialNumber":"Q2SYN-77-1"} <td>Serial Number</td><td>77120045</td>\n'
    b"urn:uuid:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed uuid=0123456789abcdef0123456789abcdef\n</body></html>\n"
)
POP3 = b"+OK POP3 Server " + HOST + b" (InSciTek OIS) ready <1896.697170952@" + HOST + b">\r\n"
FTP = b"220 nas1-synthetic FTP server (Version 6.4) ready.\r\n"


def sip(request: bytes) -> bytes:
    kept = [line for line in request.split(b"\r\n") if line.startswith((b"Via", b"From", b"To", b"Call-ID", b"CSeq"))]
    more = (
        b"Contact: <sip:100@sipnode8:5060>",
        b"Record-Route: <sip:proxy5.customer-synthetic.example;lr>, <sip:10.1.2.3;lr>",
        b'Warning: 399 sipnode8 "odd"',
        b"Organization: Synthetic Dental",
        b'WWW-Authenticate: Digest realm="sipnode8", nonce="s1pn0nce44"',
        b"Server: PBX/9.1.2 (c0ffee5e71a1)",
        b"Content-Type: application/sdp",
        b"Content-Length: 39",
    )
    return (
        b"\r\n".join((b"SIP/2.0 401 Unauthorized", *kept, *more))
        + b"\r\n\r\nc=IN IP4 media6.customer-synthetic.example"
    )


def snmp(request: bytes) -> bytes:
    """A report (RFC 3414, section 3.2) to the request, whose message id stands at bytes 9 to 12."""
    engine = bytes.fromhex("80001f8803000add112250")

    def item(tag: int, content: bytes) -> bytes:
        return bytes((tag, len(content))) + content

    security = item(0x30, item(4, engine) + b"\x02\x01\0\x02\x01\0" + item(4, b"") * 3)
    header = item(0x30, item(2, request[9:13]) + b"\x02\x02\x05\xc0\x04\x01\0\x02\x01\x03")
    scoped = item(0x30, item(4, engine) + item(4, b"") + item(0xA8, b"\x02\x01\x01\x02\x01\0\x02\x01\0" + b"\x30\0"))
    return item(0x30, b"\x02\x01\x03" + header + item(4, security) + scoped)


def dns(request: bytes) -> bytes:
    """No such name, by the word of a server that names itself (RFC 2308, section 2.1)."""
    names = b"".join(bytes((len(word),)) + word for word in (b"ns1-synthetic", b"customer-synthetic", b"example"))
    head = request[:2] + struct.pack("!HHHHH", 0x8183, 1, 0, 1, 0)
    return head + request[12:] + names + b"\0" + struct.pack("!HHLH", 6, 1, 60, len(names) + 21) + names + bytes(21)


def l2tp(request: bytes) -> bytes:
    """A grant (RFC 2661, section 6.2) for the tunnel whose id stands in the request's last pair."""

    def pair(kind: int, value: bytes) -> bytes:
        return struct.pack("!HHH", 0x8006 + len(value), 0, kind) + value

    pairs = pair(0, b"\0\2") + pair(7, b"tunnel-host-2") + pair(8, b"Synthetic") + pair(9, b"\0\7")
    return struct.pack("!HHHHHH", 0xC802, 12 + len(pairs), int.from_bytes(request[-2:]), 0, 0, 1) + pairs


def planted() -> Scan:
    scan = answering(lab("exposed-server"), "tcp/80", "http", PAGE)
    scan = answering(scan, "tcp/25", "greeting", b"220 " + HOST + b" InSciTek OIS Ready here ESMTP\r\n")
    scan = answering(scan, "tcp/110", "greeting", POP3)
    scan = answering(scan, "tcp/21", "greeting", FTP)
    for key, probe, answer in (
        ("udp/5060", "sip-udp", sip), ("udp/161", "snmp", snmp), ("udp/53", "dns", dns), ("udp/1701", "l2tp", l2tp),
    ):  # fmt: skip
        scan = answering(scan, key, probe, answer)
    return scan
