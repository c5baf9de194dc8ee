"""Writes the made parts of docs/what-we-send.md anew: the very bytes that the conversations say, ports and costs.

``make what-we-send``. Each conversation is held many times with a peer that agrees to everything; what differs from
time to time is marked as drawn by chance. tests/test_conduct.py holds the page to what the wire shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from conduct_scans import BUDGET, RAW
from conversations import LOCAL, PEER, Moment, Peer, Said, hold

from exposure_scan import __version__, plan, scope
from exposure_scan.conversation import Caller, Secured

HERE = Path(__file__).parent
PAGE = HERE / "what-we-send.md"
CONTACT = "noc@partner.invalid"  # synthetic
TIMES = 24  # that each is held: two draws of a hexadecimal digit are alike once in sixteen
MAIL = frozenset({"greeting", "tls-greeting"})
TLS = Secured("TLSv1.3", "TLS_AES_256_GCM_SHA384", b"")

RANDOM, ANY_BYTE = "⟨random⟩", "··"
PLACEHOLDERS = {
    LOCAL[0]: "⟨our address⟩",
    PEER: "⟨your address⟩",
    f":{LOCAL[1]}": ":⟨our port⟩",
    CONTACT: "⟨our contact⟩",
}
HEADS = {  # of the tables
    "ports": "| Words | Asked where | What we do |\n|---|---|---|\n",
    "recognise": "| Protocol | What your log shows |\n|---|---|\n",
    "costs": "| What stands at the address | Packets from us | Bytes from us |\n|---|---|---|\n",
}


class Message(NamedTuple):
    """What is said once: `parts` are its bytes, with a number where so many are drawn by chance."""

    when: str
    parts: tuple[bytes | int, ...]


class Protocol(NamedTuple):
    """One row of the page, and its words."""

    name: str
    probes: frozenset[str]  # of the plan's questions that are asked in these words
    asks: str
    recognise: str
    messages: tuple[Message, ...]
    text: bool


# --- what the conversations say -------------------------------------------------------------------


def said(when: str, probe: str, place: int = 0, peer: Peer | None = None, **words: object) -> Message:
    """The message at this place of a conversation, with what differs from one time to the next."""
    each = [hold(probe, peer or agrees, token=f"{number:016x}", **words).sent[place] for number in range(TIMES)]  # type: ignore[arg-type]
    size = max(map(len, each))
    each = [one for one in each if len(one) == size]  # a small number may be written with a byte less
    parts: list[bytes | int] = []
    for at, first in enumerate(each[0]):
        if any(one[at] != first for one in each):
            if parts and isinstance(parts[-1], int):
                parts[-1] += 1
            else:
                parts.append(1)
        elif parts and isinstance(parts[-1], bytes):
            parts[-1] += bytes([first])
        else:
            parts.append(bytes([first]))
    return Message(when, tuple(parts))


def agrees(moment: Moment) -> Sequence[Said]:
    """A mail server that offers TLS and agrees to it; to anything else it says nothing."""
    mail = {
        b"EHLO": b"250-x\r\n250 STARTTLS\r\n",
        b"STARTTLS": b"220 go on\r\n",
        b"x1": b"* CAPABILITY IMAP4rev1 STARTTLS\r\nx1 OK\r\n",
        b"x2": b"x2 OK\r\n",
        b"CAPA": b"+OK\r\nSTLS\r\n.\r\n",
        b"STLS": b"+OK\r\n",
    }
    return [mail[moment.words.split()[0]]] if moment.words and moment.words.split()[0] in mail else []


def grants(moment: Moment) -> Sequence[Said]:
    """An L2TP server that opens the control connection that it is asked for, with an id that it draws by chance."""
    if moment.words[12:20] != b"\x80\x08\0\0\0\0\0\x01":  # SCCRQ
        return []
    ours = moment.words[-2:]
    header = b"\xc8\x02\0\x1c" + ours + b"\0\0\0\0\0\x01"
    return [header + b"\x80\x08\0\0\0\0\0\x02" + b"\x80\x08\0\0\0\x09" + sha256(ours).digest()[:2]]


def summed(message: Message) -> Message:
    """An ICMPv6 message with the checksum that the kernel fills in."""
    first, *rest = message.parts
    assert isinstance(first, bytes)
    return Message(message.when, (first[:2], 2, first[4:], *rest) if first[4:] else (first[:2], 2, *rest))


def greeted(greeting: bytes) -> tuple[Message, ...]:
    """All that a server which greets so hears, in the clear and then in TLS."""

    def peer(moment: Moment) -> Sequence[Said]:
        return agrees(moment) if moment.words or moment.secure else [greeting]

    return tuple(Message("", (words,)) for words in hold("greeting", peer, tls=TLS).sent)


def protocols(contact: str = CONTACT) -> tuple[Protocol, ...]:
    """Everything that the product says, by protocol."""
    caller = Caller(f"exposure-scan/{__version__}", contact)
    return (
        Protocol(
            "SIP",
            frozenset({"sip-udp", "sip", "tls-sip"}),
            "One OPTIONS request: who are you, and what can you do? It rings no phone and opens no call.",
            "`User-Agent: exposure-scan`, and the user `exposure-scan` in From and Contact",
            (
                said("Over UDP", "sip-udp", port=5060, caller=caller),
                said("Over TCP", "sip", port=5060, caller=caller),
                said("Inside TLS", "tls-sip", port=5061, tls=TLS, caller=caller),
            ),
            text=True,
        ),
        Protocol(
            "HTTP",
            frozenset({"http", "tls-http"}),
            "The first page, once. No other page is asked for, and no redirect is followed.",
            "`GET /` with `User-Agent: exposure-scan`",
            (said("In the clear, and inside TLS on web ports", "http", port=80, caller=caller),),
            text=True,
        ),
        Protocol(
            "SMTP",
            MAIL,
            "We wait for the greeting, say hello, and leave. No sender, no recipient, no mail.",
            "`EHLO exposure-scan.invalid`",
            greeted(b"220 x ESMTP\r\n"),
            text=True,
        ),
        Protocol(
            "IMAP",
            MAIL,
            "We wait for the greeting, ask what the server can do, and leave. No login.",
            "a session of CAPABILITY and LOGOUT alone",
            greeted(b"* OK IMAP4rev1\r\n"),
            text=True,
        ),
        Protocol(
            "POP3",
            MAIL,
            "We wait for the greeting, ask what the server can do, and leave. No login.",
            "a session of CAPA and QUIT alone",
            greeted(b"+OK\r\n"),
            text=True,
        ),
        Protocol(
            "Ping",
            frozenset({"echo", "echo6"}),
            "An echo request.",
            "`exposure-scan` in its data",
            (said("ICMP", "echo"), summed(said("ICMPv6", "echo6"))),
            text=False,
        ),
        Protocol(
            "DNS",
            frozenset({"dns"}),
            "The address of a name that exists nowhere, to see whether a name server answers strangers.",
            "a query for a name under `exposure-scan.invalid`",
            (said("", "dns"),),
            text=False,
        ),
        Protocol(
            "TFTP",
            frozenset({"tftp"}),
            "A file that cannot exist; the refusal shows the server.",
            "a file name that begins with `exposure-scan-`",
            (said("", "tftp"),),
            text=False,
        ),
        Protocol(
            "NTP",
            frozenset({"ntp"}),
            "The time, as any clock asks for it. Nothing is set.",
            "one client request (it has no place for a name)",
            (said("", "ntp"),),
            text=False,
        ),
        Protocol(
            "SNMP",
            frozenset({"snmp"}),
            "The discovery of version 3: no community, no user, no value is asked for.",
            "an SNMPv3 message without a user (it has no place for a name)",
            (said("", "snmp"),),
            text=False,
        ),
        Protocol(
            "IKE (VPN)",
            frozenset({"ike", "ike-nat-t"}),
            "The opening message with a list of usual ciphers. No key and no identity is sent; nothing is set up.",
            "a vendor ID that begins with `exposure-scan` (some logs show it in hex: `6578706f73757265`)",
            (said("udp/500", "ike", caller=caller), said("udp/4500", "ike-nat-t", caller=caller)),
            text=False,
        ),
        Protocol(
            "L2TP (VPN)",
            frozenset({"l2tp"}),
            "A request to open a control connection, closed at once if it is granted. No login.",
            "the host name `exposure-scan`",
            (said("", "l2tp"), said("", "l2tp", 1, peer=grants)),
            text=False,
        ),
        Protocol(
            "The way",
            frozenset({"hop"}),
            "Only where nothing at all answers: up to ten datagrams that live for a few hops, each sent twice, "
            "to find the last router that answers.",
            "a text that begins with `exposure-scan`",
            (said("", "hop", caller=caller),),
            text=True,
        ),
    )


# --- how they are shown ---------------------------------------------------------------------------


def as_text(message: Message) -> str:
    """A message of words; what is not always the same has a name in angle brackets."""
    shown = "".join(RANDOM if isinstance(part, int) else part.decode("ascii") for part in message.parts)
    for sample, name in PLACEHOLDERS.items():
        shown = shown.replace(sample, name)
    return shown.replace("\r\n", "\n").rstrip("\n")


def as_hex(message: Message) -> str:
    """Sixteen bytes a line, in hex and as text; what is drawn by chance are dots."""
    cells = [
        cell
        for part in message.parts
        for cell in ([None] * part if isinstance(part, int) else list(part))
    ]  # fmt: skip
    lines = []
    for at in range(0, len(cells), 16):
        row = cells[at : at + 16]
        codes = " ".join(ANY_BYTE if cell is None else f"{cell:02x}" for cell in row)
        text = "".join("·" if cell is None else chr(cell) if 32 <= cell < 127 else "." for cell in row)
        lines.append(f"{at:04x}  {codes:<47}  {text}")
    return "\n".join(lines)


def _words(every: Sequence[Protocol]) -> Iterator[str]:
    """All that is said in text: mail as a table, since its words are short, and the rest as it is."""
    yield "### Mail\n"
    yield "| | After the greeting | Where TLS is offered; then TLS is begun | And that is all |\n|---|---|---|---|"
    for one in every:
        if one.probes == MAIL:
            yield f"| {one.name} | {' | '.join(f'`{as_text(message)}`' for message in one.messages)} |"
    for one in every:
        if one.text and one.probes != MAIL:
            yield f"\n### {one.name}"
            for message in one.messages:
                yield f"\n{message.when}:" * bool(message.when) + f"\n\n```text\n{as_text(message)}\n```"


def _bytes(every: Sequence[Protocol]) -> Iterator[str]:
    """A block for each protocol; of what differs by a word of the transport only the first."""
    for one in every:
        messages = one.messages[:1] if one.text and one.probes != MAIL else one.messages
        yield f"### {one.name}\n\n```text\n" + "\n\n".join(map(as_hex, messages)) + "\n```\n"


def _ports(every: Sequence[Protocol]) -> Iterator[str]:
    """The plan's questions, one line a protocol."""
    words = {probe: one.name for one in reversed(every) for probe in one.probes}
    words |= {"greeting": "Mail", "tls-greeting": "Mail"}
    words |= {"any": "Other", "silent": "Nothing", "empty": "Nothing"}
    asked: dict[str, list[str]] = {}
    site = scope.order_from_words([PEER], authorized_by="the owner").site
    for question in plan.questions(ip_address(PEER), site):
        port = "ping" if question.transport == "icmp" else str(question)
        asked.setdefault(words[question.probe], []).append(port)
    number = sum(map(len, asked.values())) - 1
    say = {one.name: one.asks for one in every}
    say["Mail"] = "We wait until the server greets, then speak as it does: SMTP, IMAP or POP3, and leave. No login."
    say["Other"] = "We wait whether it greets; if not, we try the words of the others."
    say["Nothing"] = "We look whether a connection is taken, or send an empty datagram (2088), and say nothing."
    say["Ping"] += " Where the program may not make one, it has the system's own `ping` ask."
    asked["The way"] = ["udp/33434 to udp/33457"]
    for name, ports in asked.items():
        yield f"| {name} | {', '.join(ports)} | {say[name]} |"
    yield f"\nIn all {number} ports, and ping."
    yield "Ports that you moved services to are asked, too, where the partner declared them."


def _costs() -> Iterator[str]:
    what = {
        "silent-site": "nothing answers at all (all dropped)",
        "remote-handset": "a phone: web page, SIP, the rest refused",
        "moved-voicemail": "mail and SIP with TLS, the rest refused",
        "exposed-server": "a server with seven open ports, the rest refused",
    }
    for site, words in what.items():
        cost = BUDGET[RAW.name][site]
        yield f"| {words} | {cost.packets} | {cost.size / 1000:.0f} kB |"


def page(before: str, contact: str = CONTACT) -> str:
    """The page with its made parts as they are now; the rest stays as it was.

    Raises:
        ValueError: a part has no place in the page.
    """
    every = protocols(contact)
    parts = {
        "ports": "\n".join(_ports(every)),
        "recognise": "\n".join(f"| {one.name} | {one.recognise} |" for one in every),
        "costs": "\n".join(_costs()),
        "words": "\n".join(_words(every)),
        "bytes": "\n".join(_bytes(every)).rstrip("\n"),
    }
    for name, text in parts.items():
        begin, end = f"<!-- made: {name} -->\n", f"<!-- end: {name} -->"
        head, begun, rest = before.partition(begin)
        _, ended, tail = rest.partition(end)
        if not begun or not ended:
            raise ValueError(f"{PAGE.name} has no place for {name}")
        before = f"{head}{begin}{HEADS.get(name, '')}{text}\n{end}{tail}"
    return before


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
