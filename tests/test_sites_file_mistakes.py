"""Mistakes in a sites file: all told at once, each with its key path and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest
from sites_files import CONSENT, HEAD, NOW, mistakes, of_dental, only

from exposure_scan.scope import read_sites_file

MOMENT = "a date or a date and time is expected"
WRITE = "write it as 2026-12-31"
FUTURE = "is in the future; write the day on which it happened"


KEYS = (
    "name, targets, fence, device, model, software, expect, voicemail, report_to, report_when, schedule, internal, "
    "packets_per_second, burst, authorization, present, declares, waiver"
)
NO_SITE = "site: no site; add a [[site]] table with name, targets and [site.authorization]."


@pytest.mark.parametrize("text", ["", "site = []", "[partner]\nname = 'Synthetic partner'"])
def test_a_file_without_a_site(tmp_path: Path, text: str) -> None:
    assert mistakes(tmp_path, text) == [NO_SITE]


def test_all_mistakes_of_types_are_told_at_once_with_their_key_paths(tmp_path: Path) -> None:
    text = """
        colour = 1
        [mail]
        port = 0
        security = "ssl"
        sender = "nobody"
        [[vantage]]
        checked = 2030-01-01
        [[site]]
        name = 5
        targets = "198.51.100.1"
        fence = [5]
        device = "phone"
        expect = [5060, "0", "tcp/25"]
        voicemail = { smtp = 0, imap = 65536, pop = 1 }
        report_to = ["owner@dental.example", "owner"]
        schedule = "daily"
        internal = "yes"
        packets_per_second = nan
        burst = 1.5
        authorization = "me"
        present = 1
        declares = 1
        waiver = [{}]
    """
    assert sorted(mistakes(tmp_path, text)) == sorted(
        [
            "colour: unknown key; known here: partner, mail, vantage, site.",
            "mail.host: is missing; name the mail server.",
            "mail.port: a number from 1 to 65535 is expected, not 0.",
            "mail.security: 'starttls', 'tls' or 'none' is expected, not \"ssl\".",
            'mail.sender: a mail address is expected, not "nobody".',
            "vantage[1].name: is missing; give it a name.",
            "vantage[1].checked: 2030-01-01 is in the future; write the day on which it happened.",
            "site[1].name: a text in quotation marks is expected, not 5.",
            'site[1].targets: a list in square brackets is expected, not "198.51.100.1".',
            "site[1].fence[1]: a text in quotation marks is expected, not 5.",
            "site[1].device: 'server', 'handset' or 'px' is expected, not \"phone\".",
            "site[1].expect[1]: a text in quotation marks is expected, not 5060.",
            'site[1].expect[2]: "0" is no port; ports go from 1 to 65535, ranges from low to high.',
            "site[1].voicemail.smtp: a number from 1 to 65535 is expected, not 0.",
            "site[1].voicemail.imap: a number from 1 to 65535 is expected, not 65536.",
            "site[1].voicemail.pop: unknown key; did you mean pop3?",
            'site[1].report_to[2]: a mail address is expected, not "owner".',
            (
                "site[1].schedule: five fields are expected (minute, hour, day, month, day of the week), "
                'as "0 3 * * *", not "daily".'
            ),
            'site[1].internal: true or false is expected, not "yes".',
            "site[1].packets_per_second: a number is expected, not nan.",
            "site[1].burst: a whole number is expected, not 1.5.",
            'site[1].authorization: a table is expected, not "me".',
            "site[1].present: a table is expected, not 1.",
            "site[1].declares: a table is expected, not 1.",
            "site[1].waiver[1].practice: is missing; name the practice.",
            "site[1].waiver[1].until: is missing; write the last day, as 2026-12-31.",
            "site[1].waiver[1].because: is missing; say why.",
            "site[1].waiver[1].by: is missing; name the person.",
        ]
    )


NO_CONSENT = "site[1].authorization: no authorization: nobody is named who consented; add [site.authorization]"


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        (HEAD + "[site.authorization]\n", "authorization.by", "is missing; name the person"),
        (
            HEAD + '[site.authorization]\nby = " \t"\n',
            "authorization.by",
            'a text with letters or digits is expected, not " \\u0009"',
        ),
        (
            HEAD + CONSENT.replace("owner", "\\u001b[31mowner"),
            "authorization.by",
            'one line without control characters is expected, not "Synthetic \\u001b[31mowner"',
        ),
        (HEAD + CONSENT + "untl = 2026-12-31", "authorization.untl", "unknown key; did you mean until?"),
        (HEAD + CONSENT + "until = 10:00:00", "authorization.until", f"{MOMENT}, not 10:00:00; {WRITE}"),
        (HEAD + CONSENT + "until = true", "authorization.until", f"{MOMENT}, not true; {WRITE}"),
        (
            HEAD + CONSENT + "until = 0x" + "f" * 9000,
            "authorization.until",
            f"{MOMENT}, not a number of that size; {WRITE}",
        ),
        (
            HEAD + CONSENT + "until = 9999-12-31T23:59:59-12:00",
            "authorization.until",
            "a moment within the years 1 to 9999 is expected",
        ),
        (HEAD + CONSENT + "on = 2027-01-01", "authorization.on", f"2027-01-01 {FUTURE}"),
        (
            HEAD + CONSENT + '[site.present]\nby = "Synthetic owner"\non = 0001-01-01',
            "present.on",
            "0001-01-01 is long ago; write the day on which it happened",
        ),
        (
            HEAD + "model = 'x" + "\u202e" * 90 + "'\n" + CONSENT,
            "model",
            'one line without control characters is expected, not "x' + 13 * "\\u202e" + '..."',
        ),
        (HEAD + "k" * 900 + " = 1\n" + CONSENT, '"' + "k" * 77 + '..."', f"unknown key; known here: {KEYS}"),
        (
            HEAD + CONSENT + '[site.present]\nby = "Synthetic owner"\non = 2026-12-24T00:00:00Z',
            "present.on",
            f"2026-12-24 {FUTURE}",
        ),
        (
            HEAD + CONSENT + '[site.present]\nby = "Synthetic owner"\non = 2026-11-24\nuntil = 2026-11-23',
            "present.until",
            "is not after `on`; write when the word is too old to count, or leave it out for 24 hours",
        ),
        (HEAD + "burst = 1001\n" + CONSENT, "burst", "a number from 1 to 1000 is expected, not 1001"),
        (
            HEAD + "voicemail = { smtp = 25, imap = 25 }\n" + CONSENT,
            "voicemail",
            "two services cannot share a port; give each its own",
        ),
        (
            HEAD + 'expect = ["5060/udp"]\n' + CONSENT,
            "expect[1]",
            '"5060/udp" is turned round; write udp/5060',
        ),
        (
            HEAD + "[site.authorisation]\nby = 'Synthetic owner'\n" + CONSENT,
            "authorisation",
            "unknown key; did you mean authorization?",
        ),
        (
            HEAD.replace('"198.51.100.12"', "") + CONSENT,
            "targets",
            'is empty; name what may be scanned, as targets = ["198.51.100.12"]',
        ),
        (
            HEAD + CONSENT + '[site.declares]\npassword.admin = { by = "Synthetic owner", on = 2026-11-01 }',
            "declares",
            'write the practice in quotation marks, as "password.admin" = { by = ..., on = ... }',
        ),
    ],
)
def test_one_mistake_is_told_in_one_sentence(tmp_path: Path, text: str, place: str, what: str) -> None:
    assert of_dental(tmp_path, text) == [f"site[1].{place}: {what}"]


def test_a_site_without_an_authorization_is_a_mistake(tmp_path: Path) -> None:
    assert of_dental(tmp_path, HEAD) == [NO_CONSENT]


def test_a_site_with_one_bracket_is_explained(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "[site]\nname = 'Synthetic Dental'") == [
        "site: a list of tables is expected; write [[site]] with two brackets."
    ]


def test_unknown_practices_are_told_with_close_ones(tmp_path: Path) -> None:
    text = """
        [site.declares]
        "password.admn" = { by = "Synthetic technician", on = 2026-11-01 }
        "password.users" = { by = "Synthetic technician", on = 2026-11-01, bye = 1 }
        [[site.waiver]]
        practice = "xyz"
        until = "soon"
        because = "-"
        by = "Synthetic owner"
    """
    close = "did you mean password.admin or password.users?"
    assert of_dental(tmp_path, HEAD + CONSENT + text) == [
        f'site[1].declares."password.admn": there is no practice "password.admn"; {close}',
        'site[1].declares."password.users".bye: unknown key; did you mean by?',
        'site[1].waiver[1].practice: there is no practice "xyz"; see `exposure-scan practices` for the ids',
        'site[1].waiver[1].until: a date is expected, not "soon"; write it as 2026-12-31',
        'site[1].waiver[1].because: a text with letters or digits is expected, not "-"',
    ]


def test_ids_are_left_alone_where_the_practices_are_not_known(tmp_path: Path) -> None:
    path = tmp_path / "sites.toml"
    path.write_text(HEAD + CONSENT + '[site.declares]\n"any.id" = { by = "Synthetic owner", on = 2026-11-01 }\n')
    assert "any.id" in read_sites_file(path, clock=lambda: NOW).orders[0].site.declares


def test_targets_and_fence_are_judged_together_with_everything_else(tmp_path: Path) -> None:
    text = """
        [[site]]
        name = "Synthetic Dental"
        targets = ["198.51.100.12", "198.51.100.99", "198.51.100.0/27", "10.0.0.1", "127.1", "pbx.dental.example"]
        fence = ["198.51.100.0/28"]
        device = "phone"
    """
    fenced = "is outside the fence (198.51.100.0/28); correct the target or the fence"
    assert of_dental(tmp_path, text) == [
        "site[1].device: 'server', 'handset' or 'px' is expected, not \"phone\"",
        NO_CONSENT,
        f'site[1].targets[2]: "198.51.100.99" {fenced}',
        f'site[1].targets[3]: "198.51.100.0/27": 198.51.100.16 in it {fenced}',
        (
            'site[1].targets[4]: "10.0.0.1" is private (RFC 1918); '
            "such addresses need internal = true in the sites file, or --internal"
        ),
        (
            'site[1].targets[5]: "127.1" is a short form of an address, which programs read differently; '
            "give an address in full (198.51.100.7), a network (198.51.100.0/28) or a name"
        ),
    ]


def test_a_name_needs_a_fence(tmp_path: Path) -> None:
    text = HEAD.replace("198.51.100.12", "pbx.dental.example") + CONSENT
    assert of_dental(tmp_path, text) == [
        (
            'site[1].fence: is missing, and "pbx.dental.example" could lead to somebody else\'s address one day; '
            'name the networks that names must stay in, as fence = ["198.51.100.0/28"]'
        )
    ]


def test_a_fence_with_a_mistake_is_the_only_mistake(tmp_path: Path) -> None:
    fence = 'fence = ["2001:db8::/64", "198.51.100.0/40", "198.51.100.1/28"]\n'
    assert of_dental(tmp_path, HEAD + fence + CONSENT) == [
        'site[1].fence[2]: "198.51.100.0/40" is no network: after the slash, a length from 0 to 32 is expected',
        (
            'site[1].fence[3]: "198.51.100.1/28" is no network: it begins at 198.51.100.0/28; '
            "write that, or the address alone"
        ),
    ]


def test_names_that_give_the_same_folder_are_refused(tmp_path: Path) -> None:
    names = ("Synthetic Dental", "synthetic  dental!", "Synthetic Bakery", "Synthetic_Dental")
    text = "".join(HEAD.replace("Synthetic Dental", name) + CONSENT for name in names)
    told = "site[1] has this name or one with the same folder (synthetic-dental); choose another"
    assert mistakes(tmp_path, text) == [
        f'site[2].name: {told} (site "synthetic  dental!").',
        f'site[4].name: {told} (site "Synthetic_Dental").',
    ]


def test_a_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path) -> None:
    text = (
        '[mail]\nhost = "mail.example"\nusername = "reports"\npassword = "hunter2"\npassword_env = "hunter2!"\n'
        + HEAD
        + CONSENT
    )
    told = mistakes(tmp_path, text)
    assert told == [
        "mail.password_env: the name of an environment variable is expected, as MAIL_PASSWORD.",
        "mail.password: unknown key; did you mean password_env?",
    ]


def test_a_recipient_outside_the_allowed_domains_is_a_mistake(tmp_path: Path) -> None:
    mail = '[mail]\nhost = "mail.example"\nallowed_domains = ["acme.example"]\n'
    to = 'report_to = ["owner@acme.example", "owner@ACME.example", "owner@evil.example", "x@sub.acme.example"]\n'
    told = mistakes(tmp_path, mail + HEAD + to + CONSENT)
    what = "is not among mail.allowed_domains; add it there or mend it"
    assert told == [
        f'site[1].report_to[3]: "evil.example" {what} (site "Synthetic Dental").',
        f'site[1].report_to[4]: "sub.acme.example" {what} (site "Synthetic Dental").',
    ]
    assert only(tmp_path, HEAD + to + CONSENT).report_to[2] == "owner@evil.example"


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        ('password_env = "A"\npassword_file = "b"\nusername = "u"', "mail.password_file: the password is already in"),
        ('password_command = ["pass", "mail"]', "mail.username: is missing"),
        ("password_command = []\nusername = 'u'", "mail.password_command"),
        ('allowed_domains = ["no domain"]', "mail.allowed_domains[1]: a domain such as acme.example is expected"),
    ],
)
def test_a_login_that_cannot_work_is_a_mistake(tmp_path: Path, keys: str, where: str) -> None:
    (told,) = mistakes(tmp_path, f'[mail]\nhost = "mail.example"\n{keys}\n' + HEAD + CONSENT)
    assert told.startswith(where)


@pytest.mark.parametrize(
    "schedule", ["0 3 * * *", "*/15 0-6 1,15 jan-mar Sun", "0,30 22-23 31 12 7", "5/10 3 * * mon,wed"]
)
def test_a_schedule_is_five_cron_fields(tmp_path: Path, schedule: str) -> None:
    assert only(tmp_path, f'{HEAD}schedule = "{schedule}"\n{CONSENT}').schedule == schedule.lower()


@pytest.mark.parametrize(
    ("schedule", "what"),
    [
        ("60 3 * * *", '"60" is no minute; from 0 to 59'),
        ("0 24 * * *", '"24" is no hour; from 0 to 23'),
        ("0 3 0 * *", '"0" is no day of the month; from 1 to 31'),
        ("0 3 * foo *", '"foo" is no month; from 1 to 12'),
        ("0 3 * * fri-mon", '"fri-mon" is no day of the week; from 0 to 7'),
        ("*/0 3 * * *", '"*/0" is no minute; from 0 to 59'),
        ("1,,2 3 * * *", '"1,,2" is no minute; from 0 to 59'),
        ("1-2-3 3 * * *", '"1-2-3" is no minute; from 0 to 59'),
    ],
)
def test_nonsense_in_a_schedule_is_told(tmp_path: Path, schedule: str, what: str) -> None:
    told = of_dental(tmp_path, f'{HEAD}schedule = "{schedule}"\n{CONSENT}')
    assert told == [f'site[1].schedule: {what} is expected, or *, as in "0 3 * * *"']
