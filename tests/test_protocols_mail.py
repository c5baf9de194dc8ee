"""Services that greet: told apart by their words, on any port, in whole or in crumbs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from conversations import Moment, Said, Talk, crumbs, hold

from exposure_scan.conversation import End, NotSecured, Secured

F1 = b"220 pbx.lab.invalid InSciTek OIS Ready here ESMTP\r\n"
F2 = b"+OK POP3 Server pbx.lab.invalid (InSciTek OIS) ready <1.2@pbx.lab.invalid>\r\n"
TLS = Secured("TLSv1.3", "TLS_AES_256_GCM_SHA384", b"")
PLAIN = NotSecured("wrong version number")

Script = dict[bytes, bytes]  # what the server says to which line; to b"" it says its greeting


def server(
    script: Script, cut: Callable[[bytes], Sequence[Said]] = lambda data: [data]
) -> Callable[[Moment], Sequence[Said]]:
    """A server that speaks first; to what is not in the script it says nothing."""

    def speak(moment: Moment) -> Sequence[Said]:
        if moment.words == b"" and moment.secure:
            return ()  # after STARTTLS a server does not greet again
        return cut(script.get(moment.words.rstrip(b"\r\n"), b""))

    return speak


SMTP: Script = {
    b"": F1,
    b"EHLO exposure-scan.invalid": b"250-pbx.lab.invalid\r\n250-SIZE 1000\r\n250 HELP\r\n",
    b"QUIT": b"221 bye\r\n",
}
SMTP_TLS: Script = SMTP | {
    b"EHLO exposure-scan.invalid": b"250-pbx.lab.invalid\r\n250-STARTTLS\r\n250 HELP\r\n",
    b"STARTTLS": b"220 go on\r\n",
}
IMAP: Script = {
    b"": b"* OK IMAP4rev1 ready (synthetic)\r\n",
    b"x1 CAPABILITY": b"* CAPABILITY IMAP4rev1 STARTTLS\r\nx1 OK done\r\n",
    b"x2 STARTTLS": b"x2 OK begin\r\n",
    b"x3 LOGOUT": b"* BYE\r\nx3 OK bye\r\n",
}
POP3: Script = {
    b"": F2,
    b"CAPA": b"+OK list\r\nTOP\r\nSTLS\r\n.\r\n",
    b"STLS": b"+OK begin\r\n",
    b"QUIT": b"+OK bye\r\n",
}


def words(talk: Talk) -> list[bytes]:
    return [data.rstrip(b"\r\n") for data in talk.sent]


@pytest.mark.parametrize("cut", [lambda data: [data], crumbs], ids=["whole", "crumbs"])
def test_smtp_with_the_vendors_greeting(cut: Callable[[bytes], Sequence[Said]]) -> None:
    talk = hold("greeting", server(SMTP, cut))
    seen = talk.observation
    assert (seen.service, seen.valid, seen.answered, seen.tls) == ("smtp", True, True, None)
    assert seen.banner == seen.said["smtp.greeting"] == "220 pbx.lab.invalid InSciTek OIS Ready here ESMTP"
    assert seen.said["smtp.ehlo"] == "250-pbx.lab.invalid\n250-SIZE 1000\n250 HELP"
    assert words(talk) == [b"EHLO exposure-scan.invalid", b"QUIT"]
    assert talk.connections == 1


def test_smtp_starttls_reads_the_session_and_says_goodbye_inside() -> None:
    talk = hold("greeting", server(SMTP_TLS), tls=TLS)
    assert words(talk) == [b"EHLO exposure-scan.invalid", b"STARTTLS", b"QUIT"]
    assert talk.observation.tls is None or talk.observation.tls.version == "TLSv1.3"
    assert talk.observation.tls is not None
    assert [event.what for event in talk.events].index("secured") < len(talk.events) - 2


def test_starttls_that_is_refused_or_fails_leaves_smtp() -> None:
    refused = hold("greeting", server(SMTP_TLS | {b"STARTTLS": b"454 not now\r\n"}), tls=TLS)
    assert (refused.observation.service, refused.observation.tls) == ("smtp", None)
    assert words(refused)[-1] == b"QUIT"
    failed = hold("greeting", server(SMTP_TLS), tls=NotSecured("handshake failure"))
    assert (failed.observation.service, failed.observation.tls) == ("smtp", None)
    assert "handshake failure" in failed.observation.notes[0]


def test_imap_capability_and_starttls() -> None:
    talk = hold("greeting", server(IMAP), tls=TLS)
    seen = talk.observation
    assert (seen.service, seen.valid) == ("imap", True)
    assert seen.said["imap.greeting"] == "* OK IMAP4rev1 ready (synthetic)"
    assert seen.said["imap.capability"] == "* CAPABILITY IMAP4rev1 STARTTLS"
    assert seen.tls is not None
    assert words(talk) == [b"x1 CAPABILITY", b"x2 STARTTLS", b"x3 LOGOUT"]


def test_pop3_with_the_vendors_greeting() -> None:
    talk = hold("greeting", server(POP3, crumbs), tls=TLS)
    seen = talk.observation
    assert (seen.service, seen.valid) == ("pop3", True)
    assert seen.said["pop3.greeting"] == F2.decode().strip()
    assert seen.said["pop3.capa"] == "+OK list\nTOP\nSTLS"
    assert words(talk) == [b"CAPA", b"STLS", b"QUIT"]
    without = hold("greeting", server({b"": F2, b"CAPA": b"-ERR what\r\n"}))
    assert (without.observation.service, without.observation.valid) == ("pop3", True)
    assert words(without) == [b"CAPA", b"QUIT"]


@pytest.mark.parametrize(
    ("greeting", "answer", "service"),
    [
        (b"220 ftp.lab.invalid ESMTP ready\r\n", b"250 hello\r\n", "smtp"),
        (b"220 smtp.lab.invalid FTP server ready\r\n", b"", "ftp"),
        (b"220 (vsFTPd 3.0.3)\r\n", b"", "ftp"),
        (b"220 ProFTPD Server (lab)\r\n", b"", "ftp"),
        (b"220 lab.invalid ready\r\n", b"250 lab.invalid\r\n", "smtp"),
        (b"220 lab.invalid ready\r\n", b"502 5.5.2 what\r\n", "smtp"),
        (b"220 lab.invalid ready\r\n", b"530 Please login with USER and PASS\r\n", "ftp"),
        (b"220 lab.invalid ready\r\n", b"500 what\r\n", None),
        (b"220-lab.invalid\r\n220-and more\r\n220 ESMTP\r\n", b"250 hello\r\n", "smtp"),
        (b"554 no mail for you\r\n", b"", "smtp"),
        (b"421 lab.invalid SMTP too busy\r\n", b"", "smtp"),
        (b"421 too busy\r\n", b"", None),
        (b"200 lab.invalid news server\r\n", b"", None),
    ],
)
def test_a_220_is_told_apart_by_words(greeting: bytes, answer: bytes, service: str | None) -> None:
    script = {b"": greeting, b"EHLO exposure-scan.invalid": answer, b"QUIT": b"221 bye\r\n"}
    talk = hold("greeting", server(script))
    assert talk.observation.service == service
    assert talk.observation.answered
    assert talk.observation.banner == greeting.split(b"\r")[0].decode()
    assert talk.connections == 1, "a port that spoke first is not asked in other ways"


def test_a_greeting_that_names_both_is_told_apart_by_the_answer_to_ehlo() -> None:
    script = {b"": b"220 FTP and ESMTP here\r\n", b"EHLO exposure-scan.invalid": b"250 hello\r\n"}
    assert hold("greeting", server(script)).observation.service == "smtp"
    assert (
        hold("greeting", server(script | {b"EHLO exposure-scan.invalid": b"500 what\r\n"})).observation.service == "ftp"
    )


def test_a_greeting_of_several_lines_is_heard_to_its_end() -> None:
    talk = hold("greeting", server({b"": b"220-lab.invalid\r\n220 FTP here\r\n"}, crumbs))
    assert talk.observation.service == "ftp"
    assert words(talk) == [b"QUIT"], "a file server that has said so is not asked as a mail server"


@pytest.mark.parametrize(
    ("greeting", "service", "field"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "ssh", "ssh.greeting"),
        (b"RFB 003.008\n", "rfb", None),
        (b"\xff\xfd\x18\xff\xfd\x20\r\nlogin: ", "telnet", None),
    ],
)
def test_services_that_are_only_listened_to(greeting: bytes, service: str, field: str | None) -> None:
    talk = hold("greeting", server({b"": greeting}))
    assert (talk.observation.service, talk.observation.valid) == (service, True)
    assert talk.sent == []
    assert list(talk.observation.said) == ([field] if field else [])


@pytest.mark.parametrize("probe", ["http", "sip", "any", "tls-http", "tls-sip", "tls-greeting", "greeting"])
def test_mail_is_found_behind_every_hint(probe: str) -> None:
    talk = hold(probe, server(SMTP), tls=PLAIN)
    assert (talk.observation.service, talk.observation.valid) == ("smtp", True)
    assert talk.observation.said["smtp.greeting"].endswith("InSciTek OIS Ready here ESMTP")
    assert talk.connections <= 2


def test_implicit_tls_greets_inside() -> None:
    def speak(moment: Moment) -> Sequence[Said]:
        if not moment.secure:
            return ()
        return [IMAP.get(moment.words.rstrip(b"\r\n"), b"")]

    for probe in ("tls-greeting", "greeting", "any", "http"):
        talk = hold(probe, speak, tls=TLS, port=993)
        assert (talk.observation.service, talk.observation.valid) == ("imap", True), probe
        assert talk.observation.tls is not None
        assert b"x2 STARTTLS\r\n" not in talk.sent, "inside TLS nobody asks for TLS"


def test_unknown_words_are_kept_and_the_port_left_alone() -> None:
    talk = hold("greeting", server({b"": b"\nwelcome to the machine\r\n"}))
    seen = talk.observation
    assert (seen.service, seen.answered, seen.valid, seen.banner) == (
        None,
        True,
        False,
        "welcome to the machine",
    )
    assert talk.sent == []


def test_a_greeting_without_an_end_is_bounded() -> None:
    talk = hold("greeting", server({b"": b"A" * 40000}))
    assert (talk.observation.service, talk.observation.answered) == (None, True)
    assert talk.observation.banner == "A" * 1000


@pytest.mark.parametrize("end", [End.CLOSED, End.RESET])
def test_a_server_that_hangs_up_in_mid_talk_keeps_its_greeting(end: End) -> None:
    talk = hold("greeting", lambda moment: [F1] if not moment.words else [end])
    seen = talk.observation
    assert (seen.service, seen.valid) == ("smtp", False)
    assert seen.said["smtp.greeting"].startswith("220 pbx.lab.invalid")
