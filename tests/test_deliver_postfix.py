"""A mail of ours through a real Postfix of Debian 12: it arrives with its headers and parts as they were."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from mail_server import MailServer, write_authority, write_certificate
from real_processes import Place, Unavailable, needs_users, place, program, running
from test_deliver import OTHER, OWNER, send, server_of

from exposure_scan import deliver
from exposure_scan.deliver import Fate


@contextmanager
def postfix(where: Place, port: int) -> Iterator[Path]:
    """Postfix with STARTTLS, which delivers all mail for customer.example into one Maildir."""
    command = program("postfix", "postfix")
    needs_users("Postfix")
    config, spool, data, boxes = (where.make(name) for name in ("postfix", "spool", "data", "boxes"))
    shutil.chown(data, "postfix", "postfix")
    shutil.chown(boxes, "nobody", "nogroup")
    services = """cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
proxymap unix - - n - - proxymap
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
anvil unix - - n - 1 anvil
virtual unix - n n - - virtual
postlog unix-dgram n - n - 1 postlogd
"""
    where.write("postfix/master.cf", f"127.0.0.1:{port} inet n - n - - smtpd\n{services}")
    where.write(
        "postfix/main.cf",
        f"""compatibility_level = 3.6
myhostname = mail.lab.invalid
mydestination =
alias_maps =
inet_protocols = all
queue_directory = {spool}
data_directory = {data}
maillog_file = /dev/stdout
smtpd_tls_chain_files = {where.certificate}
smtpd_tls_security_level = encrypt
smtpd_peername_lookup = no
virtual_mailbox_domains = customer.example
virtual_mailbox_base = {boxes}
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
""",
    )
    with running(where, [command, "-c", str(config), "start-fg"], [("tcp", "127.0.0.1", port)]):
        yield boxes / "box" / "new"


def test_a_real_postfix_delivers_a_mail_with_its_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(write_authority(tmp_path / "authority.pem")))
    message = deliver.compose(
        sender="reports@partner.example",
        sender_name="Synthetic Pärtner, Inc.",
        recipient=OWNER,
        subject="GO: Zahnärzte am Markt (first scan)",
        text="Grüße\n.\nend\n" + "x" * 3000 + "\n",
        html="<p>Grüße</p>",
        when=datetime(2026, 11, 3, 14, 5, tzinfo=UTC),
        about="20261103T140500Z-00000000",
        thread="Zahnärzte am Markt",
        first=False,
        urgent=True,
        attachments=[deliver.Attachment("zahnärzte.html", "text/html", b"<p>report</p>")],
    )
    with place(60) as own:
        where = Place(own.folder, write_certificate(own.folder / "localhost.pem"), ("127.0.0.1",))
        where.certificate.chmod(0o644)
        try:
            with postfix(where, 2587) as box:
                server = server_of(MailServer(port=2587), username=None, password=None)
                with deliver.connected(server) as delivery:
                    assert send(delivery, message=message).fate is Fate.SENT
                    assert send(delivery, 'x"y@customer.example', message).fate is Fate.REFUSED
                    assert send(delivery, OTHER, message).fate is Fate.SENT
                delivered = [path.read_bytes() for path in _arrived(box, 2)]
        except Unavailable as missing:
            pytest.skip(str(missing))
    was = message_from_bytes(message.replace(b"\r\n", b"\n"), policy=default)
    for raw in delivered:
        got = message_from_bytes(raw, policy=default)
        for header in was:
            assert got[header] == was[header], header
        assert got["Return-Path"] == "<reports@partner.example>"
        for part, sent in zip(got.walk(), was.walk(), strict=True):
            assert part.is_multipart() or part.get_content() == sent.get_content()


def _arrived(box: Path, number: int) -> list[Path]:
    """The files of a Maildir; who puts them there tells nobody."""
    until = time.monotonic() + 20
    while len(found := sorted(box.glob("*"))) < number:
        assert time.monotonic() < until, f"{len(found)} of {number} arrived"
        time.sleep(0.02)
    return found
