"""The summary in a terminal, as a person sees it: 80 columns, with and without colours."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Callable

import pytest
import samples
import samples_doubt
import samples_evidence
from rich.cells import cell_len
from rich.console import Console

from exposure_scan import report
from exposure_scan.model import Scan

every_sample = pytest.mark.parametrize(
    "sample", [*samples.ALL, *samples_doubt.ALL, *samples_evidence.ALL], ids=lambda sample: sample.__name__
)


def shown(scan: Scan, *, width: int = 80, colour: bool = False, quiet: bool = False, verbose: bool = False) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=True,
        no_color=not colour,
        highlight=False,
        _environ={},
    )
    console.print(report.summary(scan, quiet=quiet, verbose=verbose))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@every_sample
@pytest.mark.parametrize("verbose", [False, True])
def test_it_fits_eighty_columns_and_says_the_same_without_colour(sample: Callable[[], Scan], verbose: bool) -> None:
    text = shown(sample(), verbose=verbose)
    assert max(cell_len(line) for line in plain(text).splitlines()) <= 80
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", text)
    assert plain(shown(sample(), colour=True, verbose=verbose)) == plain(text)


def test_an_exposed_server_shows_ports_practices_counts_and_steps() -> None:
    text = plain(shown(samples.exposed_server(), width=120))
    assert text.startswith("✗ NO-GO  exposed-server (198.51.100.10)\n")
    assert re.search(r"udp/5060 +✗ Open +SIP +SIP/2\.0 200 OK", text)
    assert re.search(r"udp/161 +\? Not measured", text)
    assert re.search(r"sip\.not-reachable +✗ Not met", text)
    assert "Waived by sample owner until 2026-12-01" in text
    assert "Practices: 6 not met, 1 cannot tell, 13 undeclared, 1 declared, 0 met, 3 not applicable." in text
    assert "Declarations: 1 of 14 made; 13 undeclared." in text
    assert "1 Fix sip.not-reachable: Close the port on the firewall." in text
    assert "tcp/21" not in text
    assert "tcp/21" in plain(shown(samples.exposed_server(), verbose=True))


def test_quiet_is_one_line() -> None:
    text = plain(shown(samples.silent_site(), quiet=True))
    assert text == "? INCONCLUSIVE  sample site (198.51.100.44)\n"


def test_silence_is_not_told_as_safety() -> None:
    text = plain(shown(samples.silent_site()))
    assert "silence alone proves nothing" in text
    assert "1 Make sure that the site is there" in text


def test_hostile_text_moves_no_cursor_and_turns_no_direction() -> None:
    text = plain(shown(samples.hostile(), verbose=True))
    bad = {char for char in text if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co")}
    assert bad == set()
    assert "owned" not in text
    assert "[bold red]" in re.sub(r"\s", "", text).replace("[boldred]", "[bold red]")  # shown, not obeyed
    assert "(cut)" in text
    assert len(text) < 60_000
