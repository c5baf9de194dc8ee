"""From words to an order, and from an order to targets: what is refused, and in which sentence."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exposure_scan.model import Authorization, DeviceClass, Presence, Problem, Site, Target, Vantage, Waiver
from exposure_scan.scope import Order, order_from_words, parse_services, resolve, with_words
from exposure_scan.scope.addresses import read_network, read_target

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
FORMS = "give an address in full (198.51.100.7), a network (198.51.100.0/28) or a name"
INTERNAL = "such addresses need internal = true in the sites file, or --internal"


def order(*targets: str, **more: Any) -> Order:
    return order_from_words(targets, **{"authorized_by": "Synthetic owner", "clock": lambda: NOW, **more})


def mistakes(*targets: str, **more: Any) -> list[str]:
    with pytest.raises(Problem) as caught:
        order(*targets, **more)
    assert all(sentence.isprintable() for sentence in caught.value.sentences)
    return list(caught.value.sentences)


# --- orders from words ---------------------------------------------------------------------------


def test_an_order_holds_what_the_words_say() -> None:
    made = order(
        " 198.51.100.7 ",
        "PBX.Dental.example",
        authorized_by="  Synthetic owner ",
        reference="ticket 1",
        until="2026-12-31",
        device="Server",
        expect="udp/5060, 443,tcp/5060-5061,443",
        voicemail_ports="SMTP=2525, imap = 1143",
        present="Synthetic technician, by phone",
        require_declarations=True,
    )
    assert made == Order(
        site=Site(
            name="198.51.100.7",
            targets=(" 198.51.100.7 ", "PBX.Dental.example"),
            device=DeviceClass.SERVER,
            expect=("udp/5060", "tcp/443", "tcp/5060", "tcp/5061"),
            voicemail={"smtp": 2525, "imap": 1143},
            present=Presence(by="Synthetic technician, by phone", on=NOW),
            require_declarations=True,
        ),
        authorization=Authorization(
            by="Synthetic owner", reference="ticket 1", until=datetime(2026, 12, 31, 23, 59, 59, 999999, UTC)
        ),
        fence=(),
        partner={},
        internal=False,
        packets_per_second=100.0,
        burst=20,
        report_to=(),
        report_when="on-change",
        schedule=None,
        vantage=Vantage(name="unnamed vantage", checked=False, outside=True),
    )
    assert order("198.51.100.7", name="Synthetic Dental").site.name == "Synthetic Dental"


def test_blank_words_are_none() -> None:
    blank = dict.fromkeys(("reference", "until", "name", "device", "expect", "voicemail_ports", "present"), " ")
    assert order("198.51.100.7", **blank) == order("198.51.100.7")


@pytest.mark.parametrize(
    ("until", "moment"),
    [
        ("2026-12-31T10:00", datetime(2026, 12, 31, 10, tzinfo=UTC)),
        ("2026-12-31 10:00+02:00", datetime(2026, 12, 31, 8, tzinfo=UTC)),
        (" 2026-12-31 ", datetime(2026, 12, 31, 23, 59, 59, 999999, UTC)),
    ],
)
def test_until_is_a_day_to_its_end_or_a_moment(until: str, moment: datetime) -> None:
    assert order("198.51.100.7", until=until).authorization.until == moment


@pytest.mark.parametrize("by", [None, "", "  ", "\t\n"])
def test_a_blank_authorization_is_none(by: str | None) -> None:
    assert mistakes("198.51.100.7", authorized_by=by) == [
        (
            "No authorization: nobody is named who consented to this scan; say who with --authorized-by, "
            "or scan a site of the sites file."
        )
    ]


def test_all_mistakes_in_words_are_told_at_once() -> None:
    assert mistakes(
        "127.1",
        "198.51.100.7",
        "10.0.0.1",
        authorized_by="-",
        reference="a\x1b[2Jb",
        until="tomorrow",
        name="...",
        device="phone",
        expect="5060/udp,0",
        voicemail_ports="smtp=0",
        present="!",
    ) == [
        f'Target 1: "127.1" is a short form of an address, which programs read differently; {FORMS}.',
        f'Target 3: "10.0.0.1" is private (RFC 1918); {INTERNAL}.',
        '--authorized-by: a text with letters or digits is expected, not "-".',
        '--reference: one line without control characters is expected, not "a\\u001b[2Jb".',
        '--until: a date or a date and time is expected, not "tomorrow"; write it as 2026-12-31.',
        'Site: a text with letters or digits is expected, not "...".',
        '--device: server, handset or px is expected, not "phone".',
        '--expect: "5060/udp" is turned round; write udp/5060.',
        '--expect: "0" is no port; ports go from 1 to 65535, ranges from low to high.',
        '--voicemail-ports: "smtp=0" is no voicemail port; write smtp=2525, imap=1143 or pop3=1110, from 1 to 65535.',
        '--present: a text with letters or digits is expected, not "!".',
    ]


def test_no_target_is_a_mistake() -> None:
    assert mistakes() == ["No target: give at least one address, network or name."]


# --- lists of ports ------------------------------------------------------------------------------


def test_a_list_of_ports_becomes_keys_each_once_in_order() -> None:
    assert parse_services("UDP/5060, 8080,25,tcp/25,udp/65534-65535") == (
        "udp/5060", "tcp/8080", "tcp/25", "udp/65534", "udp/65535",
    )  # fmt: skip
    assert len(parse_services("1-65535,tcp/1-100")) == 65535


def test_every_entry_that_is_no_port_is_told() -> None:
    no = "is no port; ports go from 1 to 65535, ranges from low to high"
    form = "is no port; write udp/5060, tcp/25, 8080 or 1000-1010"
    with pytest.raises(Problem) as caught:
        parse_services("25,0,65536,tcp/20-10,0-5,99999,5060/UDP,sctp/1,1-2-3,-1,,٢٥,\x1b[2J")
    assert caught.value.sentences == (
        f'Ports: "0" {no}.',
        f'Ports: "65536" {no}.',
        f'Ports: "tcp/20-10" {no}.',
        f'Ports: "0-5" {no}.',
        f'Ports: "99999" {no}.',
        'Ports: "5060/UDP" is turned round; write udp/5060.',
        f'Ports: "sctp/1" {form}.',
        f'Ports: "1-2-3" {form}.',
        f'Ports: "-1" {form}.',
        f'Ports: "" {form}.',
        f'Ports: "٢٥" {form}.',
        f'Ports: "\\u001b[2J" {form}.',
    )


def test_voicemail_ports_are_told_apart() -> None:
    form = "is no voicemail port; write smtp=2525, imap=1143 or pop3=1110, from 1 to 65535"
    assert mistakes("198.51.100.7", voicemail_ports="smtp=2525,smtp=2526,pop3=2525,http=80,imap=65536,2525,") == [
        "--voicemail-ports: smtp is named twice; give one port for it.",
        f'--voicemail-ports: "http=80" {form}.',
        f'--voicemail-ports: "imap=65536" {form}.',
        f'--voicemail-ports: "2525" {form}.',
        f'--voicemail-ports: "" {form}.',
        "--voicemail-ports: two services cannot share the port 2525; give each its own.",
    ]


# --- a site of the file, refined -----------------------------------------------------------------


def of_file() -> Order:
    made = order("198.51.100.7", device="server", expect="udp/5060", voicemail_ports="smtp=2525,imap=1143")
    waiver = Waiver(practice="server.stealth", until=NOW.date(), because="it is", by="Synthetic owner")
    return replace(
        made,
        site=made.site.model_copy(update={"waivers": (waiver,), "model": "6x12"}),
        fence=(ip_network("198.51.100.0/28"),),
        vantage=Vantage(name="rented server", checked=True),
        packets_per_second=7.0,
    )


def test_words_refine_a_site_of_the_file() -> None:
    refined = with_words(
        of_file(),
        clock=lambda: NOW,
        device="px",
        expect="tcp/443,udp/5060",
        voicemail_ports="smtp=2526,pop3=1110",
        present="Synthetic technician",
        require_declarations=True,
    )
    assert refined == replace(
        of_file(),
        site=of_file().site.model_copy(
            update={
                "device": DeviceClass.PX,
                "expect": ("udp/5060", "tcp/443"),
                "voicemail": {"smtp": 2526, "imap": 1143, "pop3": 1110},
                "present": Presence(by="Synthetic technician", on=NOW),
                "require_declarations": True,
            }
        ),
    )
    assert with_words(of_file()) == of_file()
    assert with_words(of_file(), device=" ", expect="", voicemail_ports="\t", present=" ") == of_file()


def test_internal_can_be_added_and_then_there_is_no_outside_view() -> None:
    refined = with_words(of_file(), internal=True)
    assert refined.internal
    assert refined.vantage == Vantage(name="rented server", checked=True, outside=False)
    assert with_words(refined, internal=False).internal, "the command line does not take back what the file says"


def test_mistakes_in_refining_words_are_told_at_once() -> None:
    with pytest.raises(Problem) as caught:
        with_words(of_file(), device="phone", expect="x", voicemail_ports="smtp=1143", present="\x07a")
    assert caught.value.sentences == (
        '--device: server, handset or px is expected, not "phone".',
        '--expect: "x" is no port; write udp/5060, tcp/25, 8080 or 1000-1010.',
        "--voicemail-ports: two services cannot share the port 1143; give each its own.",
        '--present: one line without control characters is expected, not "\\u0007a".',
    )


# --- which addresses may be asked ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("0.0.0.0", "the unspecified address (RFC 1122)"),
        ("0.1.2.3", "reserved for hosts without an address (RFC 1122)"),
        ("192.0.0.8", "reserved for protocols (RFC 6890)"),
        ("192.88.99.1", "reserved, once for 6to4 relays (RFC 7526)"),
        ("224.0.0.1", "multicast (RFC 5771)"),
        ("239.255.255.255", "multicast (RFC 5771)"),
        ("240.0.0.1", "reserved (RFC 1112)"),
        ("255.255.255.255", "broadcast (RFC 919)"),
        ("::", "the unspecified address (RFC 4291)"),
        ("::198.51.100.7", "reserved (RFC 4291)"),
        ("::ffff:224.0.0.1", "multicast (RFC 5771)"),
        ("64:ff9b::198.51.100.7", "a translated IPv4 address (RFC 6052)"),
        ("100::1", "reserved (RFC 4291)"),
        ("2001::1", "reserved for protocols such as Teredo (RFC 2928)"),
        ("2002:c633:6407::1", "a tunnel to an IPv4 address (RFC 3056)"),
        ("fec0::1", "reserved (RFC 4291)"),
        ("ff02::1", "multicast (RFC 4291)"),
    ],
)
@pytest.mark.parametrize("internal", [False, True])
def test_some_addresses_are_never_scanned(text: str, what: str, internal: bool) -> None:
    assert mistakes(text, internal=internal) == [f'Target 1: "{text}" is {what} and is never scanned.']


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("10.255.255.255", "private (RFC 1918)"),
        ("172.16.0.1", "private (RFC 1918)"),
        ("172.31.255.254", "private (RFC 1918)"),
        ("192.168.1.1", "private (RFC 1918)"),
        ("100.64.0.1", "shared among a provider's customers (RFC 6598)"),
        ("100.127.255.255", "shared among a provider's customers (RFC 6598)"),
        ("169.254.1.1", "link-local (RFC 3927)"),
        ("127.0.0.1", "loopback, this computer itself (RFC 1122)"),
        ("::ffff:10.0.0.1", "private (RFC 1918)"),
        ("::1", "loopback, this computer itself (RFC 4291)"),
        ("fd00::1", "unique local (RFC 4193)"),
        ("fe80::1", "link-local (RFC 4291)"),
    ],
)
def test_inside_addresses_need_the_word_and_then_there_is_no_outside_view(text: str, what: str) -> None:
    assert mistakes(text) == [f'Target 1: "{text}" is {what}; {INTERNAL}.']
    made = order(text, internal=True)
    assert (made.internal, made.vantage.outside) == (True, False)
    assert len(asyncio.run(resolve(made))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "198.51.100.1",
        "198.18.0.1",
        "198.19.255.255",
        "2001:db8::1",
        "3fff::1",
        "2001:2::1",
        "172.32.0.1",
        "100.128.0.1",
    ],
)
def test_public_documentation_and_benchmark_addresses_are_accepted(text: str) -> None:
    (target,) = asyncio.run(resolve(order(text)))
    assert (str(target), target.names) == (text, ())


def test_a_mapped_address_is_judged_and_asked_as_ipv4() -> None:
    made = order("::ffff:198.51.100.7", "198.51.100.7", "::ffff:198.51.100.0/126")
    assert [str(target) for target in asyncio.run(resolve(made))] == [
        "198.51.100.7", "198.51.100.0", "198.51.100.1", "198.51.100.2", "198.51.100.3",
    ]  # fmt: skip
    assert read_network("::ffff:0:0/96") == ip_network("0.0.0.0/0")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", f"an empty target; {FORMS}"),
        ("198.51.100.07", f"Q has leading zeros, which some programs read as octal; {FORMS}"),
        ("0x7f.1", f"Q is an address in hexadecimal, which programs read differently; {FORMS}"),
        ("198.51.0X64.7", f"Q is an address in hexadecimal, which programs read differently; {FORMS}"),
        ("3325256711", f"Q is an address as one number, which is easily mistyped; {FORMS}"),
        ("198.51.100", f"Q is a short form of an address, which programs read differently; {FORMS}"),
        ("198.51.100.256", f"Q is no IPv4 address: it has four numbers from 0 to 255; {FORMS}"),
        ("198.51.100.7.", f"Q is neither an address nor a name; {FORMS}"),
        ("198.51.100.1-9", f"Q is a range, and only networks are read; {FORMS}"),
        ("198.51.100.7:5060", f"Q has a port; ports are chosen with --ports; {FORMS}"),
        ("[2001:db8::1]:80", "Q has brackets; give the address without brackets and port"),
        ("2001:db8::g", f"Q is no IPv6 address; {FORMS}"),
        ("fe80::1%eth0", "Q has a zone (%...), which means something on one computer only; leave it out"),
        (
            "2001:db8::%1/126",
            '"2001:db8::%1" has a zone (%...), which means something on one computer only; leave it out',
        ),
        ("http://198.51.100.7/", "Q is a web address; give only the name or the address in it"),
        ("198.51.100.0/23", "Q holds more than 256 addresses, the most that a site may have; name a smaller network"),
        ("2001:db8::/64", "Q holds more than 256 addresses, the most that a site may have; name a smaller network"),
        ("198.51.100.1/28", "Q is no network: it begins at 198.51.100.0/28; write that, or the address alone"),
        ("198.51.100.0/33", "Q is no network: after the slash, a length from 0 to 32 is expected"),
        ("198.51.100.0/255.255.255.0", "Q is no network: after the slash, a length from 0 to 32 is expected"),
        ("198.51.100.0/", "Q is no network: after the slash, a length from 0 to 32 is expected"),
        ("\uff11\uff19\uff18.51.100.7", f"Q is neither an address nor a name; {FORMS}"),
        ("a..example", f"Q is neither an address nor a name; {FORMS}"),
        ("-a.example", f"Q is neither an address nor a name; {FORMS}"),
        ("*.dental.example", f"Q is neither an address nor a name; {FORMS}"),
        ("owner@dental.example", f"Q is neither an address nor a name; {FORMS}"),
        ("pbx.dental.example..", f"Q is neither an address nor a name; {FORMS}"),
        ("bücher.example", "Q has letters outside ASCII; write the name in its xn-- form"),
        ("пример.рф", "Q has letters outside ASCII; write the name in its xn-- form"),
    ],
)
def test_a_target_that_could_be_misread_is_refused(text: str, why: str) -> None:
    assert mistakes(text) == [f"Target 1: {why}.".replace("Q", f'"{text}"')]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("evil\x1b[2J.example", '"evil\\u001b[2J.example"'),
        ("a\r\nb.example", '"a\\u000d\\u000ab.example"'),
        ("\u202egnp.example", '"\\u202egnp.example"'),
        ("x" * 5000 + ".example", '"' + "x" * 77 + '..."'),
    ],
)
def test_hostile_text_is_shown_safely(text: str, shown: str) -> None:
    (sentence,) = mistakes(text)
    assert sentence.startswith(f"Target 1: {shown} ")


@given(st.text() | st.text("0123456789abcdefx.:/%[]-"))
def test_any_text_is_an_address_a_network_a_plain_name_or_refused(text: str) -> None:
    try:
        read = read_target(text)
    except ValueError as error:
        assert str(error).isprintable()  # noqa: PT017 - a text that is read is no failure
    else:
        if isinstance(read, str):
            assert set(read) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_")
            with pytest.raises(OSError):  # what the C library would read as an address is no name
                socket.inet_aton(read)


def test_a_site_may_have_256_addresses_and_no_more() -> None:
    assert len(asyncio.run(resolve(order("198.51.100.0/24")))) == 256
    told = "the targets are more than 256 addresses; divide them among several sites"
    assert mistakes("198.51.100.0/24", "198.18.0.1") == [f"Target 2: {told}."]
    assert len(asyncio.run(resolve(order("198.51.100.0/24", "198.51.100.7")))) == 256, "each counts once"
    assert mistakes(*(f"n{number}.example" for number in range(257))) == [f"Target 257: {told}."]


def test_one_address_that_may_not_be_asked_refuses_the_whole_order() -> None:
    made = order("198.51.100.7", "198.51.100.16/31")
    fenced = replace(made, fence=(ip_network("198.51.100.0/28"), ip_network("198.51.100.16/32")))
    with pytest.raises(Problem) as caught:
        asyncio.run(resolve(fenced))
    assert caught.value.sentences == (
        (
            'Target 2: "198.51.100.16/31": 198.51.100.17 in it is outside the fence '
            "(198.51.100.0/28, 198.51.100.16/32); correct the target or the fence."
        ),
    )
    # an order that nobody judged before is judged here
    made = replace(made, site=made.site.model_copy(update={"targets": ("198.51.100.7", "10.0.0.0/28")}))
    with pytest.raises(Problem) as caught:
        asyncio.run(resolve(made))
    assert caught.value.sentences == (f'Target 2: "10.0.0.0/28": 10.0.0.0 in it is private (RFC 1918); {INTERNAL}.',)


def test_a_target_carries_consent_pace_and_burst() -> None:
    made = replace(order("198.51.100.7", "2001:db8::7", reference="ticket 1"), packets_per_second=7.5, burst=3)
    consent = Authorization(by="Synthetic owner", reference="ticket 1")
    assert asyncio.run(resolve(made)) == (
        Target(IPv4Address("198.51.100.7"), (), consent, 7.5, 3),
        Target(IPv6Address("2001:db8::7"), (), consent, 7.5, 3),
    )
