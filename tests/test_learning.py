"""Learning from a unit of one's own: what is taken out, what is left aside, and that the next scan knows it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from exposure_scan import classify, scope, sweep
from exposure_scan.classify import Lesson, Part, Unit
from exposure_scan.model import DeviceClass, Problem
from exposure_scan.sweep import learning

UNIT = Unit(DeviceClass.PX, "Px 6/2", "7.6.2", "learnt on a bench (synthetic)")
ZORB = "Zorbian Expander"  # synthetic words that are nobody's


def learnt(field: str, *texts: str, unit: Unit = UNIT, **said: str) -> Lesson:
    """The lesson of one field in three tries; one text is said each time."""
    beside = {name.replace("_", ".", 1): text for name, text in said.items()}
    three = texts if len(texts) > 1 else texts * 3
    return classify.learn([{"tcp/80": {field: text, **beside}} for text in three], unit, "bench")


def part(lesson: Lesson) -> Part:
    return lesson.parts[0]


@pytest.mark.parametrize(
    ("text", "shown", "secret"),
    [
        (f"{ZORB} of pbx.acme-dental.example", f"{ZORB} of [name]", "acme"),
        (f"{ZORB} j.owner@acme.example", f"{ZORB} [name]", "owner"),
        (f"{ZORB} 00:0A:DD:12:34:56", f"{ZORB} [address]", "12:34:56"),
        (f"{ZORB} SN 12345678", f"{ZORB} SN [serial]", "12345678"),
        (f"{ZORB} AB123456C", f"{ZORB} [serial]", "123456"),
        (f"{ZORB} at 198.51.100.77", f"{ZORB} at [address]", "100.77"),
        (f"{ZORB} at 2001:db8::77:1", f"{ZORB} at [address]", "77:1"),
        (f"{ZORB} Thu, 5 Apr 2018 19:30:58 GMT", f"{ZORB} [date] [date]", "2018"),
        (f"{ZORB} 2026-11-25T10:11:12Z", f"{ZORB} [date][date]", "2026"),
        (f"{ZORB} 11/25/2026 10:11 PM", f"{ZORB} [date] [date]", "2026"),
        (f"{ZORB} Nov 25 2026", f"{ZORB} [date]", "2026"),
        (f"{ZORB} <12.34@acme.example>", f"{ZORB} [stamp]", "acme"),
        (f'Digest realm="{ZORB}", nonce="5f2a", qop="auth"', f'Digest realm="{ZORB}", [nonce], qop="auth"', "5f2a"),
    ],
)
def test_what_names_somebody_is_taken_out_and_another_units_words_still_match(
    text: str, shown: str, secret: str
) -> None:
    lesson = learnt("http.title", text)
    assert (part(lesson).text, part(lesson).kept) == (shown, True)
    assert lesson.pack is not None
    assert secret not in lesson.pack
    _, rows = classify.read_pack(lesson.pack, "bench")
    assert rows[0].confidence_in(text, {}, None) == 0.8


def test_the_name_in_a_mail_greeting_is_taken_out_even_without_a_dot() -> None:
    lesson = learnt("smtp.greeting", f"220 acmedental {ZORB} ready")
    assert part(lesson).text == f"220 [name] {ZORB} ready"
    assert "acmedental" not in (lesson.pack or "acmedental")


def test_version_and_model_are_read_out_and_other_versions_match() -> None:
    lesson = learnt("http.title", "Zorbian Px 6/2 v7.6.2 (7.6.2)")
    assert part(lesson).text == "Zorbian [model] v[version] ([varies])"
    assert lesson.pack is not None
    known = classify.known_with([("bench", lesson.pack)])
    (support,) = classify.match("http.title", "Zorbian Px 6/2 v9.1.10 (9.1)", known=known)
    assert classify.details(support, known) == classify.Details("Allworx Px Expander", "Px 6/2", "9.1.10")


@pytest.mark.parametrize(
    "mark", ["®", "\u2013", "\u00a0", "€", "\U0001f4de", "\x1b[31m", "\x9b2J", "\u202e", "\x00", "\\", "`", "é"]
)
def test_any_mark_can_be_learnt_and_the_pack_moves_no_terminal(mark: str) -> None:
    lesson = learnt("http.title", f"{ZORB}{mark} Px")
    assert lesson.pack is not None
    assert all(line.isprintable() for line in lesson.pack.replace("\u00a0", " ").splitlines())
    known = classify.known_with([("bench", lesson.pack)])
    (support,) = classify.match("http.title", f"{ZORB}{mark} Px", known=known)
    assert support.says is DeviceClass.PX
    assert not classify.match("http.title", f"{ZORB} Px", known=known)


def test_what_differs_between_tries_is_left_open() -> None:
    lesson = learnt("http.title", f"{ZORB} call 1a", f"{ZORB} call 2b", f"{ZORB} call 3c")
    assert (part(lesson).text, part(lesson).kept) == (f"{ZORB} call [varies]", True)


@pytest.mark.parametrize(
    ("field", "texts", "because"),
    [
        ("http.title", (ZORB, f"{ZORB} now", ZORB), "it is never the same"),
        ("http.title", ("Login", "Login", "Login"), "anybody may say that"),
        ("http.title", ("Phone Configuration",) * 3, "anybody may say that"),
        ("imap.greeting", ("* OK IMAP4rev1 ready",) * 3, "anybody may say that"),
        ("http.server", ("nginx/1.22.1",) * 3, "these are the words of nginx, which others run too"),
        ("http.server", ("IST OIS",) * 3, "it is known already, as Allworx"),
        ("http.www-authenticate", ('Digest realm="users@acme.example", nonce="1"',) * 3, "anybody may say that"),
    ],
)
def test_what_tells_the_unit_from_nobody_is_left_aside_with_the_reason(
    field: str, texts: tuple[str, ...], because: str
) -> None:
    lesson = learnt(field, *texts)
    assert (part(lesson).kept, part(lesson).because, lesson.pack) == (False, because, None)


def test_what_did_not_come_each_time_is_left_aside() -> None:
    tries = [{"tcp/80": {"http.title": ZORB}}, {}, {"tcp/80": {"http.title": ZORB}}]
    lesson = classify.learn(tries, UNIT, "bench")
    assert (part(lesson).because, lesson.pack) == ("it came in 2 of 3 tries", None)


def test_the_protocols_own_words_are_no_marks() -> None:
    assert learnt("sip.allow", "OPTIONS, ZORBIAN").parts == ()


def test_the_same_words_on_two_ports_are_one_row() -> None:
    said = {"tcp/80": {"http.title": ZORB}, "tcp/8080": {"http.title": ZORB}}
    lesson = classify.learn([said] * 3, UNIT, "bench")
    assert part(lesson).ports == ("tcp/80", "tcp/8080")
    assert (lesson.pack or "").count("[[fingerprint]]") == 1


def test_a_title_that_came_with_the_vendors_server_needs_it_again() -> None:
    lesson = learnt("http.title", ZORB, http_server="IST OIS")
    assert lesson.pack is not None
    (row,) = classify.read_pack(lesson.pack, "bench")[1]
    assert row.confidence_in(ZORB, {"http.server": "IST OIS"}, None) == 0.8
    assert row.confidence_in(ZORB, {"http.server": "nginx"}, None) == 0.5


# --- on the practice site ------------------------------------------------------------------------


def order(address: str) -> scope.Order:
    return scope.order_from_words([address], authorized_by="practice site")


def test_the_practice_px_is_known_by_its_pack_afterwards_and_verify_goes_by_it(practice_site: None) -> None:
    done = asyncio.run(learning.learn(order("198.51.100.30"), DeviceClass.PX, "Px 6/2", "7.6.2", "bench"))
    assert done.lesson.pack is not None
    known = classify.known_with([("bench", done.lesson.pack)])
    without = asyncio.run(sweep.scan_site(order("2001:db8::30"))).scan
    assert without.hosts[0].device.class_ is DeviceClass.UNKNOWN
    scan = asyncio.run(sweep.scan_site(order("2001:db8::30"), known=known)).scan
    assert (scan.hosts[0].device.class_, scan.hosts[0].device.declared) == (DeviceClass.PX, False)
    assert [pack.name for pack in scan.packs] == ["bench"]
    assert "authorized by practice site" in scan.packs[0].origin
    assert sweep.rederive(scan) == scan
    assert sweep.rederive(scan.model_copy(update={"packs": ()})).hosts[0].device.class_ is DeviceClass.UNKNOWN


def test_a_pack_that_said_nothing_is_not_kept(practice_site: None) -> None:
    pack = learnt("http.title", ZORB).pack
    assert pack is not None
    scan = asyncio.run(sweep.scan_site(order("198.51.100.30"), known=classify.known_with([("bench", pack)]))).scan
    assert scan.packs == ()


def test_a_unit_that_says_what_it_is_is_not_learnt_as_another(practice_site: None) -> None:
    with pytest.raises(Problem, match=r"198\.51\.100\.20 says itself that it is an Allworx handset"):
        asyncio.run(learning.learn(order("198.51.100.20"), DeviceClass.PX, None, None, "bench"))


def command(*words: str, packs: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "exposure_scan", *words, "--packs", str(packs)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


def test_the_commands_learn_check_and_scan(practice_site: None, tmp_path: Path) -> None:
    unit = ("fingerprint", "learn", "198.51.100.30", "--class", "px", "--model", "Px 6/2", "--software", "7.6.2")
    packs = tmp_path / "packs"
    refused = command(*unit, packs=packs)
    assert refused.returncode == 2
    assert "consented" in refused.stderr
    assert not packs.exists()
    first = command(*unit, "--authorized-by", "practice site", packs=packs)
    assert first.returncode == 0, first.stderr
    assert "Port Expander (synthetic)" in first.stdout
    again = command(*unit, "--authorized-by", "practice site", packs=packs)
    assert again.returncode == 2
    assert "is there already" in again.stderr
    checked = command("fingerprint", "check", packs=packs)
    assert checked.returncode == 0
    assert "no mistake. Origin: learnt on" in checked.stdout
    scan = command("scan", "198.51.100.30", "--authorized-by", "practice site", packs=packs)
    assert "Allworx Px expander; very likely (80%)" in scan.stdout
    (path,) = packs.glob("*.toml")
    path.write_text(path.read_text().replace("^Port", "^Sport"))
    broken = command("fingerprint", "check", packs=packs)
    assert broken.returncode == 1
    assert "example 1 gives a confidence of 0.0" in broken.stdout
    assert command("scan", "198.51.100.30", "--authorized-by", "practice site", packs=packs).returncode == 2


def test_a_unit_that_says_nothing_of_its_own_teaches_nothing(practice_site: None, tmp_path: Path) -> None:
    words = ("fingerprint", "learn", "198.51.100.50", "--class", "server", "--authorized-by", "practice site")
    done = command(*words, packs=tmp_path)
    assert done.returncode == 3
    assert "No pack was written" in done.stdout
    assert list(tmp_path.iterdir()) == []
