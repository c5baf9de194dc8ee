"""The fault matrix: each cell over a line with its faults, the lossy ones a few times (`make matrix`: 20 times)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from fault_matrix import CELLS, GO, INCONCLUSIVE, NO_GO, Cell, Judged, Seen, judge, run, summary

from exposure_scan import assess
from exposure_scan.lab.faults import FAULTS
from exposure_scan.lab.line import available
from exposure_scan.model import Severity, Status

NO_LINE = available()
WEIGHTY = {one.id for one in assess.practices() if one.severity in (Severity.CRITICAL, Severity.HIGH)}


@pytest.fixture(scope="module")
def matrix() -> Mapping[str, list[Judged]]:
    found: dict[str, list[Judged]] = {name: [] for name in CELLS}
    for one in run(list(CELLS.values()), repeat=2):
        found[one.cell.name].append(one)
    return found


@pytest.mark.skipif(NO_LINE is not None, reason=NO_LINE or "")
@pytest.mark.parametrize("name", CELLS)
def test_the_scan_says_what_is_true_of(name: str, matrix: Mapping[str, list[Judged]]) -> None:
    assert len(matrix[name]) == (2 if CELLS[name].lossy else 1)
    assert [one.mistakes for one in matrix[name] if one.mistakes] == []


# --- the judge itself -----------------------------------------------------------------------------


def seen(cell: Cell, **other: object) -> Seen:
    """A scan that says of a cell nothing but the truth."""
    states = {practice.id: Status.MET for practice in assess.practices()}
    states |= dict.fromkeys(cell.breaks, Status.NOT_MET)
    true = Seen(cell.allowed[0], {**states, **cell.states}, ("because",), {}, True, None, None, None, (), 0.0, 0.0, 1.0)
    return replace(true, **other)  # type: ignore[arg-type]


def test_a_true_scan_has_no_mistakes() -> None:
    cell = CELLS["sip-only router"]
    assert judge(cell, seen(cell)).mistakes == []
    assert judge(cell, seen(cell, open={"udp/5060": "sip"})).mistakes == []


def test_what_must_be_nil_is_counted() -> None:
    cell = CELLS["sip-only router"]
    alarm = {**seen(cell).states, "server.admin-page-hidden": Status.NOT_MET}
    lossy = CELLS["sip-only loss=0.2"]
    missed = {**seen(lossy).states, "sip.not-reachable": Status.MET}
    told = [
        judge(cell, seen(cell, verdict=GO)),
        judge(cell, seen(cell, states=alarm)),
        judge(cell, seen(cell, open={"tcp/5060": "sip"})),
        judge(lossy, seen(lossy, states=missed)),
        judge(cell, seen(cell, verdict=INCONCLUSIVE)),
    ]
    assert [(one.false_go, len(one.false_alarm), bool(one.wrong)) for one in told] == [
        (True, 0, False),
        (False, 1, False),
        (False, 1, False),
        (False, 0, True),
        (False, 0, True),
    ]
    lines = summary(told).splitlines()
    assert "false GO (must be 0): 1" in lines
    assert "false alarm (must be 0): 2" in lines
    assert "otherwise wrong (must be 0): 2" in lines
    assert "inconclusive where a better verdict was possible: 1" in lines


def test_an_open_port_without_a_word_carries_no_name() -> None:
    cell = CELLS["nobody sip-helper"]
    scan = seen(cell, open={"tcp/5060": None, "tcp/2000": None}, middlebox="a helper")
    assert judge(cell, scan).mistakes == []
    assert judge(cell, replace(scan, middlebox=None)).mistakes == ["it does not show a middlebox"]


def test_doubt_where_a_go_was_possible_is_no_mistake_but_is_counted() -> None:
    cell = CELLS["refusing loss=0.2"]
    doubt = judge(cell, seen(cell, verdict=INCONCLUSIVE))
    assert doubt.mistakes == []
    assert doubt.could_be_better
    assert not judge(cell, seen(cell)).could_be_better


@pytest.mark.parametrize("cell", CELLS.values(), ids=lambda cell: cell.name)
def test_no_cell_allows_what_must_never_be(cell: Cell) -> None:
    assert cell.breaks <= {practice.id for practice in assess.practices()}
    if cell.breaks & WEIGHTY or (cell.device == "nobody" and not cell.present) or "dark" in cell.faults:
        assert GO not in cell.allowed
    if not cell.breaks & WEIGHTY:
        assert NO_GO not in cell.allowed


def test_the_matrix_has_every_fault_that_the_lab_can_make() -> None:
    made = {fault.partition("=")[0] for cell in CELLS.values() for fault in cell.faults.split()}
    assert made == set(FAULTS)
