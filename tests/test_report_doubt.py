"""Whatever keeps silence from being safety is told in the page and in the terminal, with what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import samples
import samples_doubt
from test_report import Reader, html
from test_report_terminal import plain, shown

from exposure_scan.model import Hop, Path, PortState, Presence, RouterError, Scan, Severity, Status, Vantage

Sample = Callable[[], Scan]


def read(scan: Scan) -> str:
    return Reader(html(scan)).words


def terminal(scan: Scan, *, verbose: bool = False) -> str:
    return " ".join(plain(shown(scan, width=400, verbose=verbose)).split())


def section(words: str, start: str, end: str) -> str:
    return words.split(start, 1)[1].split(end, 1)[0]


def box(scan: Scan) -> str:
    return section(read(scan), "Scanned on", "At a glance")


def steps(scan: Scan) -> str:
    return section(read(scan), "What to do, in this order", "What was scanned")


def facts(scan: Scan) -> str:
    return section(read(scan), "What was scanned", "Ports that answered or matter")


def with_path(**more: object) -> Scan:
    scan = samples.silent_site()
    return scan.model_copy(update={"hosts": (samples.host(path=Path.model_validate(more)),)})


# --- beside the verdict, and as a step -----------------------------------------------------------

CAUTIONS: tuple[tuple[Sample, str], ...] = (
    (
        samples_doubt.went_dark,
        (
            "At 198.51.100.72, tcp/443 answered at 14:05:01 and was silent when asked again at 14:05:09 UTC. "
            "Something on the way began to block the scanner, so what was silent may be open."
        ),
    ),
    (
        samples_doubt.blind_vantage,
        (
            "The scanner's own network cannot see everything: tcp/25 cannot get out; somebody else answers on tcp/110. "
            "These ports were not measured."
        ),
    ),
    (
        samples_doubt.lossy_path,
        "at 198.51.100.70, 12% of 88 tries came to nothing, both ways together. An answer may have been lost",
    ),
    (
        samples_doubt.helper_on_the_way,
        (
            "Something on the way accepts connections in place of 198.51.100.71: "
            "an open port there (tcp/2000, tcp/5060) shows nothing until it says a word."
        ),
    ),
    (
        samples.silent_with_presence,
        (
            "sample technician confirmed on 3 November 2026, 14:05 UTC (saw the address on the router's page) that the "
            "live site is at this address. That is a person's word, not a measurement, and it counts until "
            "4 November 2026, 14:05 UTC."
        ),
    ),
    (
        samples_doubt.expired_presence,
        "That word counted until 2 November 2026, 14:05 UTC; it has expired.",
    ),
)


@pytest.mark.parametrize(("sample", "told"), CAUTIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_doubt_stands_beside_the_verdict(sample: Sample, told: str) -> None:
    assert told in box(sample())
    assert told in terminal(sample()).split("What to do next")[0]


STEPS: tuple[tuple[Sample, str, str], ...] = (
    (samples.silent_site, "Make sure that the site is there", "let a named person confirm it."),
    (samples_doubt.expired_presence, "Make sure that the site is there", "confirm it again, and scan soon after."),
    (
        samples_doubt.went_dark,
        "Let the scanner through, then scan again",
        (
            "Allow the scanner's address (it scans from sample vantage) in the firewall and in its "
            "intrusion protection, or wait until the block has ended. Then repeat the scan."
        ),
    ),
    (
        samples_doubt.blind_vantage,
        "Scan from a network that can see these ports",
        (
            "Have tcp/25 let out by the provider or firewall on the scanner's side. "
            "Take away what answers there on tcp/110"
        ),
    ),
    (samples_doubt.lossy_path, "Scan again over a better line", "Repeat the scan when the line is quieter"),
)


@pytest.mark.parametrize(("sample", "order", "what"), STEPS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_doubt_has_a_step_that_comes_first(sample: Sample, order: str, what: str) -> None:
    first = steps(sample()).split("Why:")[0]
    assert order in first
    assert what in first
    line = terminal(sample()).split("What to do next")[1].split(" 2 ")[0]
    assert f"1 {order}: " in line
    assert what in line


def test_many_blind_spots_are_cut_as_a_list_and_no_advice_is_lost_with_them() -> None:
    spots = tuple(f"tcp/{number}" for number in range(50001, 50013))
    vantage = Vantage(name="desk", checked=True, blind=spots, forged=spots)
    text = terminal(samples_doubt.blind_vantage().model_copy(update={"vantage": vantage}))
    assert "tcp/50008 and 4 more cannot get out; somebody else answers on tcp/50001" in text
    assert "tcp/50009" not in text
    assert "or scan from another network. `exposure-scan vantage check` shows what gets out." in text


def test_behind_a_middlebox_the_second_step_is_to_take_it_out_of_the_way() -> None:
    second = steps(samples_doubt.helper_on_the_way()).split("Why:")[1]
    assert "Take the helper out of the way" in second
    assert "look whether tcp/2000, tcp/5060 are forwarded at all. Switch off the SIP helper (SIP ALG)" in second
    assert "2 Take the helper out of the way" in terminal(samples_doubt.helper_on_the_way())


def test_what_a_block_has_left_open_is_one_step_and_the_other_doubts_keep_theirs() -> None:
    told = steps(samples_doubt.went_dark())
    assert "SIP cannot be reached from outside" not in told  # rests on the last look; allowing the scanner settles it
    assert "The software is supported" in told  # rests on something else


def test_on_a_bad_line_enough_tries_settle_everything_and_nothing_is_left_to_do() -> None:
    scan = samples_doubt.lossy_path()
    settled = [f.model_copy(update={"status": Status.MET, "confidence": 0.9995}) for f in scan.findings]
    scan = scan.model_copy(update={"findings": tuple(settled)})
    assert "12% of 88 tries" in box(scan)
    assert "Scan again over a better line" not in steps(scan) + terminal(scan)


def test_a_site_without_doubts_has_no_caution() -> None:
    assert '<p class="caution">' not in html(samples.exposed_server())
    assert "! " not in terminal(samples.exposed_server()).split("198.51.100.10: Allworx")[0]


def test_the_reason_in_the_band_names_the_block() -> None:
    assert "INCONCLUSIVE Something began to block the scanner while it was asking." in box(samples_doubt.went_dark())
    assert "Something began to block the scanner" in terminal(samples_doubt.went_dark()).split("!")[0]


# --- the picture ---------------------------------------------------------------------------------


def test_ports_that_a_middlebox_blurs_are_no_open_doors_in_the_picture() -> None:
    words = read(samples_doubt.helper_on_the_way())
    assert "Open, or only seems so (2): something on the way may be what accepts tcp/5060 tcp/2000" in words
    assert "Open (" not in words
    assert "tcp/5060 ? Open, or only seems so" in terminal(samples_doubt.helper_on_the_way())


def test_an_open_port_that_the_middlebox_does_not_blur_stays_an_open_door() -> None:
    changed = (samples.port("tcp", 5060, PortState.OPEN), samples.port("tcp", 443, PortState.OPEN))
    seen = samples.host(changed=changed, path=Path(middlebox="it answers for some", blurred=("tcp/5060",)))
    scan = samples.silent_site().model_copy(update={"hosts": (seen,)})
    assert "Open (1): answers anyone tcp/443" in read(scan)
    assert "tcp/443 ✗ Open" in terminal(scan)


def test_a_port_that_this_network_cannot_ask_says_why_it_was_not_measured() -> None:
    for text in (read(samples_doubt.blind_vantage()), terminal(samples_doubt.blind_vantage())):
        assert "the scanner's network does not let the question out" in text
        assert "in the scanner's network somebody else answers for it" in text
    assert "nothing is known of them: tcp/25, tcp/110" in read(samples_doubt.blind_vantage())


def test_too_few_tries_for_the_loss_are_told_as_such() -> None:
    changed = (samples.port("tcp", 25, PortState.UNMEASURED, reason="too-few-tries"),)
    scan = samples_doubt.lossy_path().model_copy(update={"hosts": (samples.host(changed=changed),)})
    assert "no answer, after too few tries for this line" in read(scan)
    assert "no answer, after too few tries for this line" in terminal(scan)


# --- facts about the way and the scanner ---------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (samples_doubt.lossy_path, "Lost packets {}12% of 88 tries came to nothing, both ways together."),
        (samples.exposed_server, "Lost packets {}2% of 60 tries came to nothing"),
        (samples.silent_site, "Routers said {}198.51.100.1 said “host unreachable” 4 times (ICMP type 3, code 1)."),
        (samples.silent_site, "A router's word is about the way. It does not prove that the host is there."),
        (
            samples.silent_site,
            (
                "Last hop {}198.51.100.1, 7 hops from the scanner, answered last. It said of the host: "
                "“host unreachable”. The address may be wrong, or the device off."
            ),
        ),
        (
            samples_doubt.helper_on_the_way,
            (
                "Last hop {}198.51.100.2, 1 hop from the scanner, answered last. It passed the packets on and said "
                "nothing of the host."
            ),
        ),
        (samples_doubt.went_dark, "198.51.100.3 said “forbidden” once (ICMP type 3, code 13)."),
        (
            samples_doubt.helper_on_the_way,
            (
                "On the way {}The handshake is completed even on tcp/2000, which nobody serves. "
                "Perhaps its doing, not the address's: tcp/2000, tcp/5060."
            ),
        ),
        (samples_doubt.lossy_path, "Scanner's delay {}The scanner itself was about 340 ms late at worst."),
    ],
)
def test_what_the_way_and_the_scanner_did_is_told(sample: Sample, told: str) -> None:
    assert told.format("") in facts(sample())
    assert told.replace(" {}", ": ") in terminal(sample())


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        (samples_doubt.went_dark, "Went dark {}tcp/443 answered at 14:05:01 and was silent when asked again"),
        (samples_doubt.went_dark, "Lost packets {}None of 31 tries came to nothing."),
        (samples.silent_site, "Lost packets {}Loss could not be measured, because too little answered."),
        (
            samples.silent_with_presence,
            (
                "Confirmed present {}sample technician confirmed on 3 November 2026, 14:05 UTC (saw the address on the "
                "router's page). It counts until 4 November 2026, 14:05 UTC. That is a person's word"
            ),
        ),
        (samples_doubt.expired_presence, "It has expired: it counted until 2 November 2026, 14:05 UTC."),
        (
            samples_doubt.blind_vantage,
            (
                "Scanned from {}sample office. This network was checked on 31 October 2026, 14:05 UTC: tcp/25 cannot "
                "get out; somebody else answers on tcp/110. These ports were not measured."
            ),
        ),
        (
            samples.silent_site,
            "sample vantage. This network was checked on 1 November 2026, 14:05 UTC: it lets all questions out.",
        ),
        (samples_doubt.expired_presence, "Nobody has checked that this network lets all questions out"),
    ],
)
def test_the_rest_is_in_the_page_and_in_the_verbose_terminal(sample: Sample, told: str) -> None:
    assert told.format("") in facts(sample())
    assert told.replace(" {}", ": ") in terminal(sample(), verbose=True)


def test_a_terminal_is_not_told_what_changes_nothing() -> None:
    text = terminal(samples.exposed_server())
    assert "Scanned from" not in text
    assert "Lost packets: 2% of 60" in text
    assert "Lost packets" not in terminal(samples_doubt.went_dark())
    assert "Went dark" not in terminal(samples_doubt.went_dark())  # the caution above says it


def test_an_ordinary_delay_of_the_scanner_is_not_worth_a_word() -> None:
    scan = samples_doubt.lossy_path().model_copy(update={"lag_ms": 100.0})
    assert "delay" not in facts(scan)
    assert "delay" not in terminal(scan, verbose=True)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ({"loss": 0.004, "samples": 500}, "Less than 1% of 500 tries"),
        ({"loss": 0.5, "samples": 1}, "50% of 1 try"),
        ({"loss": 0.3333, "samples": 3}, "33% of 3 tries"),
        ({"loss": 0.25}, "25% of the tries"),
    ],
)
def test_loss_is_never_told_more_finely_than_it_was_measured(path: dict[str, object], told: str) -> None:
    assert told in facts(with_path(**path))


def test_many_router_errors_are_cut_and_an_unknown_reason_is_told_as_it_is() -> None:
    errors = [
        RouterError(by=f"198.51.100.{number}", type=3, code=40, reason="icmp-type-3-code-40", times=1)
        for number in range(1, 8)
    ]
    told = facts(with_path(errors=errors))
    assert "198.51.100.4 said “icmp-type-3-code-40” once (ICMP type 3, code 40)." in told
    assert "198.51.100.5" not in told
    assert "3 more kinds of error are in the JSON" in told


def test_ping_that_fell_silent_is_called_ping() -> None:
    dark = {"port": "icmp", "answered": samples.AT, "silent": samples.AT + timedelta(minutes=1)}
    assert "Went dark ping answered at 14:05:00 and was silent when asked again at 14:06:00 UTC" in facts(
        with_path(dark=dark)
    )


def test_an_unchecked_network_with_known_blind_spots_tells_both() -> None:
    vantage = Vantage(name="desk", blind=("tcp/25",))
    scan = samples.silent_site().model_copy(update={"vantage": vantage})
    assert "Nobody has checked that this network" in facts(scan)
    assert "Known of it: tcp/25 cannot get out. These ports were not measured." in facts(scan)


# --- whose word counts, and until when -----------------------------------------------------------


def test_a_word_counts_until_its_end_and_no_longer() -> None:
    scan = samples.silent_with_presence()
    word = scan.site.present
    assert word is not None
    for until, counts in ((scan.started, False), (scan.started + timedelta(seconds=1), True)):
        present = word.model_copy(update={"until": until})
        site = scan.site.model_copy(update={"present": present})
        text = read(scan.model_copy(update={"site": site}))
        assert ("Make sure that the site is there" not in text) is counts
        assert ("there by a person's word; nothing answered" in text) is counts
        assert ("the person's word that it is there has expired" in text) is not counts


def test_an_expired_word_is_no_caution_where_the_host_itself_answered() -> None:
    scan = samples.exposed_server()
    word = Presence(by="sample technician", on=scan.started - timedelta(days=3))
    scan = scan.model_copy(update={"site": scan.site.model_copy(update={"present": word})})
    assert "expired" not in box(scan)
    assert "It has expired: it counted until 1 November 2026" in facts(scan)


def test_text_that_never_ends_swallows_none_of_our_words() -> None:
    scan = samples.silent_with_presence()
    word = Presence(by="\x1b]0;owned", on=scan.started, how="\x1bPowned")
    vantage = Vantage(name="\x1b]0;owned", checked=True, blind=("\x1b]0;owned",))
    way = Path(
        errors=(RouterError(by="\x1b]0;owned", type=3, code=1, reason="\x1b]0;", times=2),),
        last_hop=Hop(ttl=3, address="\x1b]0;owned", reason="\x1b]0;"),
    )
    changes = {
        "site": scan.site.model_copy(update={"present": word}),
        "vantage": vantage,
        "hosts": (samples.host(path=way),),
    }
    scan = scan.model_copy(update=changes)
    for text in (read(scan), terminal(scan, verbose=True)):
        assert "That is a person's word, not a measurement, and it counts until" in text
        assert "cannot get out. These ports were not measured." in text
        assert "2 times (ICMP type 3, code 1)" in text
        assert "3 hops from the scanner, answered last" in text
        assert "owned" not in text


# --- how sure a finding is -----------------------------------------------------------------------


def practice(scan: Scan, id_: str) -> str:
    """The details of one practice in the page."""
    return next(part for part in read(scan).split("What was seen ") if f"Practice {id_} " in part)


def test_a_finding_in_doubt_says_how_often_chance_makes_it_and_a_sure_one_does_not_boast() -> None:
    scan = samples_doubt.lossy_path()
    words = read(scan)
    assert words.count("(not beyond doubt)") == 1
    assert "The admin page is hidden (not beyond doubt)" in words
    assert "an answer is missed about 1 time in 30 on this line." in practice(scan, "server.admin-page-hidden")
    assert (
        "To be wrong, packets would have to be lost 3 times in a row, which happens less than 1 time in 1,000."
        in practice(scan, "server.stealth")
    )
    assert "no lost packet can change it" in practice(scan, "server.unused-services-off")
    assert "How surely" not in practice(scan, "password.admin")
    assert "%" not in practice(scan, "server.admin-page-hidden")


def test_a_finding_in_doubt_says_so_in_the_terminal_and_a_sure_one_says_nothing() -> None:
    text = terminal(samples_doubt.lossy_path(), verbose=True)
    assert text.count("Not beyond doubt") == 1
    assert "Not beyond doubt: an answer is missed about 1 time in 30 on this line." in text
    assert "times in a row" not in text


@pytest.mark.parametrize(
    ("confidence", "told"),
    [
        (0.0, "more often than not"),
        (0.5, "about 1 time in 2"),
        (0.86, "about 1 time in 7"),
        (0.97, "about 1 time in 30"),
        (0.9985, "about 1 time in 700"),
    ],
)
@pytest.mark.parametrize(
    ("status", "opening"),
    [
        (Status.NOT_MET, "such a sighting is mistaken"),
        (Status.MET, "an answer is missed"),
        (Status.CANNOT_TELL, "an answer is missed"),
    ],
)
def test_a_confidence_is_told_to_one_digit(confidence: float, told: str, status: Status, opening: str) -> None:
    scan = samples.silent_site()
    only = scan.findings[0].model_copy(
        update={"status": status, "confidence": confidence, "severity": Severity.CRITICAL}
    )
    for text in (read(scan.model_copy(update={"findings": (only,)})),):
        assert f"Not beyond doubt: {opening} {told}" in text


def test_a_declared_practice_rests_on_nobodys_measurement() -> None:
    scan = samples.silent_site()
    only = scan.findings[1].model_copy(update={"status": Status.DECLARED, "confidence": 0.4})
    assert "How surely" not in read(scan.model_copy(update={"findings": (only,)}))
