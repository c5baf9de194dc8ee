"""The sites file: what it becomes, and what is no sites file at all."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from ipaddress import ip_network
from pathlib import Path

import pytest
from sites_files import CONSENT, HEAD, mistakes, only, read

from exposure_scan.model import Authorization, Declaration, DeviceClass, Presence, Problem, Site, Vantage, Waiver
from exposure_scan.scope import Order, read_sites_file
from exposure_scan.scope.sites import VantageNote

WHOLE = """
[partner]
name = "Synthetic partner"
contact = "Synthetic technician"
phone = "555 0100"
mail = "noc@partner.example"

[mail]
host = "mail.partner.example"
port = 587
security = "starttls"
username = "reports"
password_env = "MAIL_PASSWORD"
allowed_domains = ["@Dental.example", "bakery.example"]
sender = "reports@partner.example"

[[vantage]]
name = "rented server"
checked = 2026-11-20
blind = ["tcp/25", "udp/5060"]
forged = ["8080", "tcp/80-81"]
found = "the provider blocks mail"

[[site]]
name = "  Synthetic Dental  "
targets = ["198.51.100.12", "pbx.dental.example"]
fence = ["198.51.100.0/28", "2001:db8::12"]
device = "server"
model = "6x12"
software = "7.6.2.3"
expect = ["udp/5060", "tcp/5060-5061", "5060"]
voicemail = { smtp = 2525, imap = 1143 }
report_to = ["owner@dental.example"]
report_when = "weekly"
schedule = "0 3 * * MON-FRI"
packets_per_second = 50
burst = 5

[site.authorization]
by = "Synthetic owner"
role = "owner"
on = 2026-11-01
until = 2026-12-31
reference = "ticket 1"

[site.present]
by = "Synthetic technician"
on = 2026-11-23
how = "placed a call"

[site.declares]
"password.admin" = { by = "Synthetic technician", on = 2026-11-01, until = 2027-11-01 }

[[site.waiver]]
practice = "server.stealth"
until = 2026-12-31
because = "the provider pings it"
by = "Synthetic owner"

[[site]]
name = "Synthetic Bakery"
targets = ["10.1.2.3"]
internal = true
authorization = { by = "Synthetic baker" }
"""

RENTED = Vantage(
    name="rented server",
    checked=True,
    on=datetime(2026, 11, 20, tzinfo=UTC),
    blind=("tcp/25", "udp/5060"),
    forged=("tcp/8080", "tcp/80", "tcp/81"),
)


def test_everything_that_the_file_may_say_arrives(tmp_path: Path) -> None:
    file = read(tmp_path, WHOLE)
    partner = {
        "name": "Synthetic partner",
        "contact": "Synthetic technician",
        "phone": "555 0100",
        "mail": "noc@partner.example",
    }
    assert (file.path, file.partner) == (tmp_path / "sites.toml", partner)
    assert file.mail == {
        "host": "mail.partner.example",
        "port": 587,
        "security": "starttls",
        "username": "reports",
        "password_env": "MAIL_PASSWORD",
        "sender": "reports@partner.example",
        "allowed_domains": ["dental.example", "bakery.example"],
    }
    assert file.vantages == (
        VantageNote(
            "rented server",
            date(2026, 11, 20),
            "the provider blocks mail",
            ("tcp/25", "udp/5060"),
            ("tcp/8080", "tcp/80", "tcp/81"),
        ),
    )
    dental, bakery = file.orders
    assert dental == Order(
        site=Site(
            name="Synthetic Dental",
            targets=("198.51.100.12", "pbx.dental.example"),
            device=DeviceClass.SERVER,
            model="6x12",
            software="7.6.2.3",
            expect=("udp/5060", "tcp/5060", "tcp/5061"),
            voicemail={"smtp": 2525, "imap": 1143},
            present=Presence(by="Synthetic technician", on=datetime(2026, 11, 23, tzinfo=UTC), how="placed a call"),
            declares={
                "password.admin": Declaration(by="Synthetic technician", on=date(2026, 11, 1), until=date(2027, 11, 1))
            },
            waivers=(
                Waiver(
                    practice="server.stealth",
                    until=date(2026, 12, 31),
                    because="the provider pings it",
                    by="Synthetic owner",
                ),
            ),
        ),
        authorization=Authorization(
            by="Synthetic owner",
            role="owner",
            on=date(2026, 11, 1),
            until=datetime(2026, 12, 31, 23, 59, 59, 999999, UTC),
            reference="ticket 1",
        ),
        fence=(ip_network("198.51.100.0/28"), ip_network("2001:db8::12/128")),
        partner=partner,
        internal=False,
        packets_per_second=50.0,
        burst=5,
        report_to=("owner@dental.example",),
        report_when="weekly",
        schedule="0 3 * * mon-fri",
        vantage=RENTED,
    )
    assert (bakery.internal, bakery.fence, bakery.report_to, bakery.schedule) == (True, (), (), None)
    assert (bakery.packets_per_second, bakery.burst) == (100.0, 20)
    assert bakery.vantage == RENTED.model_copy(update={"outside": False}), "no outside view"
    assert bakery.authorization.until is None


def test_the_vantage_is_named_only_as_far_as_the_file_says(tmp_path: Path) -> None:
    assert only(tmp_path, HEAD + CONSENT).vantage == Vantage(name="unnamed vantage")
    two = '[[vantage]]\nname = "office"\n[[vantage]]\nname = "rented server"\n'
    assert only(tmp_path, two + HEAD + CONSENT).vantage == Vantage(name="one of office, rented server")


def test_of_several_vantages_the_worst_is_taken(tmp_path: Path) -> None:
    """Nobody knows which one a scan is made from."""
    first = '[[vantage]]\nname = "office"\nchecked = 2026-11-20\nblind = ["tcp/25"]\n'
    second = (
        '[[vantage]]\nname = "rented server"\nchecked = 2026-11-02\nblind = ["tcp/25", "tcp/80"]\nforged = ["21"]\n'
    )
    both = only(tmp_path, first + second + HEAD + CONSENT).vantage
    assert (both.checked, both.on) == (True, datetime(2026, 11, 2, tzinfo=UTC))
    assert (both.blind, both.forged) == (("tcp/25", "tcp/80"), ("tcp/21",))
    half = only(tmp_path, first + second.replace("checked = 2026-11-02\n", "") + HEAD + CONSENT).vantage
    assert (half.checked, half.blind, half.forged) == (False, ("tcp/25", "tcp/80"), ("tcp/21",))


@pytest.mark.parametrize(
    ("until", "ends"),
    [
        ("", datetime(2026, 11, 24, 8, tzinfo=UTC)),
        ("until = 2026-11-30", datetime(2026, 11, 30, 23, 59, 59, 999999, UTC)),
        ("until = 2026-11-23T12:00:00Z", datetime(2026, 11, 23, 12, tzinfo=UTC)),
    ],
)
def test_a_confirmed_presence_counts_for_a_day_or_as_long_as_the_file_says(
    tmp_path: Path, until: str, ends: datetime
) -> None:
    present = f'[site.present]\nby = "Synthetic technician"\non = 2026-11-23T08:00:00Z\n{until}\n'
    confirmed = only(tmp_path, HEAD + CONSENT + present).site.present
    assert confirmed is not None
    assert confirmed.ends == ends


@pytest.mark.parametrize(
    ("until", "moment"),
    [
        ("2026-12-31", datetime(2026, 12, 31, 23, 59, 59, 999999, UTC)),
        ('"2026-12-31"', datetime(2026, 12, 31, 23, 59, 59, 999999, UTC)),
        ("2026-12-31T10:00:00", datetime(2026, 12, 31, 10, tzinfo=UTC)),
        ("2026-12-31T10:00:00-05:00", datetime(2026, 12, 31, 10, tzinfo=timezone(timedelta(hours=-5)))),
        ("2020-01-01", datetime(2020, 1, 1, 23, 59, 59, 999999, UTC)),  # expired: `resolve` refuses it
    ],
)
def test_a_last_day_lasts_until_its_end(tmp_path: Path, until: str, moment: datetime) -> None:
    assert only(tmp_path, f"{HEAD}{CONSENT}until = {until}\n").authorization.until == moment


def test_a_byte_order_mark_and_crlf_are_no_mistake(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + (HEAD + CONSENT).replace("\n", "\r\n").encode()
    (order,) = read(tmp_path, text).orders
    assert order.site.name == "Synthetic Dental"


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[partner]\nname = \n", "line 2, column 8: is not TOML: invalid value; correct this line."),
        ("# fine\nname = [1,\n2", "line 3: is not TOML: unclosed array; correct this line."),
        ("a = 1\na = 2\n", "line 2, column 6: is not TOML: cannot overwrite a value; correct this line."),
        ('a = "\x1b[31m"', "line 1, column 6: is not TOML: illegal character '\\x1b'; correct this line."),
        (b'# a\nname = "\xfc"\n', "line 2: is not UTF-8 text; save the file as UTF-8."),
        (b"\xef\xbb\xbf#\n#\n\xff", "line 3: is not UTF-8 text; save the file as UTF-8."),
        ("a = " + "[" * 100_000, "is nested too deeply; a sites file is a short text in TOML."),
        ("a = " + "9" * 5000, "holds a number of thousands of digits, which cannot be read."),
        (b"#" * (4 * 1024 * 1024 + 1), "is larger than 4 MiB; a sites file is a short text in TOML."),
    ],
    ids=["value", "end", "twice", "control", "latin-1", "after a mark", "deep", "digits", "large"],
)
def test_a_file_that_is_no_toml(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    assert mistakes(tmp_path, text) == [sentence]


@pytest.mark.parametrize(("name", "why"), [("none.toml", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(Problem) as caught:
        read_sites_file(tmp_path / name)
    assert caught.value.sentences == (f"{tmp_path / name}: cannot be read ({why}); give the name of a sites file.",)


def test_a_site_is_found_by_its_name_and_close_names_are_told(tmp_path: Path) -> None:
    file = read(tmp_path, WHOLE)
    assert file.order("Synthetic Bakery") is file.orders[1]
    start = f"{file.path}: there is no site "
    with pytest.raises(Problem) as near:
        file.order("synthetic bkry")
    assert near.value.sentences == (start + '"synthetic bkry"; did you mean "Synthetic Bakery" or "Synthetic Dental"?',)
    with pytest.raises(Problem) as far:
        file.order("\x1b[31mqqq")
    assert far.value.sentences == (
        start + '"\\u001b[31mqqq"; the file begins with "Synthetic Dental", "Synthetic Bakery".',
    )
