"""Fleets made by hand for the tests of the fleet page. Every site is synthetic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product

from samples import AT, HOSTILE

from exposure_scan.model import Point, Vantage, Verdict
from exposure_scan.model.fleet import Expiry, Fleet, FleetRow, Turns

GO, NO_GO, INCONCLUSIVE = Verdict.GO, Verdict.NO_GO, Verdict.INCONCLUSIVE
VANTAGE = Vantage(name="sample vantage", checked=True, on=AT - timedelta(days=2))
PARTNER = {"name": "Sample Partner", "accent": "#1c4f9c"}


def points(*numbers: int, verdict: Verdict = NO_GO, until: datetime = AT) -> tuple[Point, ...]:
    """Scans of one night after the other with so many practices not met; one of -1 is inconclusive."""
    found = []
    for back, number in enumerate(reversed(numbers)):
        said = INCONCLUSIVE if number < 0 else verdict if number else GO
        at = until - timedelta(days=back)
        found.append(
            Point(at=at, verdict=said, not_met=max(number, 0), cannot_tell=0, undeclared=13, open=max(number, 0))
        )
    return tuple(reversed(found))


def row(name: str, verdict: Verdict | None = GO, was: Verdict | None = GO, **more: object) -> FleetRow:
    """A site that stands as it stood unless `more` says otherwise."""
    values: dict[str, object] = {
        "name": name,
        "folder": name.lower().replace(" ", "-"),
        "addresses": ("198.51.100.10",),
        "scanned": AT - timedelta(hours=11),
        "verdict": verdict,
        "was": was,
        "undeclared": 13,
        "vantage": VANTAGE,
        "points": points(0, 0),
    }
    return FleetRow(**(values | more))  # type: ignore[arg-type]


def ending(days: int, kind: str = "waiver", title: str = "The server ignores ping", by: str = "sample owner") -> Expiry:
    """A waiver or declaration that ends in so many days; ended where they are below zero."""
    return Expiry(kind, title, by, AT.date() + timedelta(days=days))  # type: ignore[arg-type]


def fleet(rows: Iterable[FleetRow], **more: object) -> Fleet:
    return Fleet(at=AT, rows=rows, **more)  # type: ignore[arg-type]


def mixed() -> list[FleetRow]:
    """A site of each kind, in an order that is none of the page's."""
    return [
        row("Quiet go"),
        row("Old hole", NO_GO, NO_GO, not_met=2, open=2, oldest_days=84, turns=Turns(still=2), points=points(2, 2, 2)),
        row("Fixed now", GO, NO_GO, turns=Turns(fixed=3), points=points(3, 3, 0)),
        row(
            "Fresh hole",
            NO_GO,
            GO,
            not_met=3,
            cannot_tell=1,
            open=4,
            oldest_days=0,
            turns=Turns(new=2, back=1),
            points=points(0, 1, 0, 3),
            expiring=(ending(-3), ending(12, "declaration", "The admin password is strong", "sample technician")),
        ),
        row("Failing long", None, GO, why="The consent has expired.", failures=4),
        row("Failed tonight", None, NO_GO, why="no route to host", failures=1, not_met=1, oldest_days=9),
        row("Fell silent", INCONCLUSIVE, GO, cannot_tell=6, points=points(0, 0, -1)),
        row("Still silent", INCONCLUSIVE, INCONCLUSIVE, cannot_tell=6, points=points(-1, -1)),
        row("First scan", NO_GO, None, not_met=1, oldest_days=0, points=points(1)),
        row("Ends soon", GO, GO, expiring=(ending(0), *[ending(day) for day in (7, 8, 9)])),
        row("Never scanned", None, None, folder="", scanned=None, points=(), vantage=None, addresses=()),
    ]


def hostile() -> list[FleetRow]:
    """Every text is an attack, alone and behind the characters that begin a formula."""
    long = HOSTILE + "A" * 1_000_000
    end = Expiry("waiver", long, HOSTILE, AT.date())
    place = Vantage(name=HOSTILE, checked=True, on=AT, blind=(HOSTILE, long), forged=(HOSTILE,))
    texts = [
        *(sign + HOSTILE for sign in ("", "=", "+", "-", "@", "\t=", "\uff1d")),
        long,
        "",
        "\u200b",
        "javascript:x",
    ]
    return [
        row(text, verdict, folder=folder, addresses=(text, HOSTILE, "x"), why=text, expiring=(end,), vantage=place)
        for (text, verdict), folder in zip(
            product(texts, (None, NO_GO)), ("..", "../..//x?y=<b>", "javascript:x", "\ud800\"'", "a") * 9, strict=False
        )
    ]


def many(number: int) -> Iterator[FleetRow]:
    """Sites in which every kind comes again and again, each made when it is asked for."""
    kinds = mixed()
    for count in range(number):
        kind = kinds[count % len(kinds)]
        name = f"{kind.name} {count}"
        yield replace(kind, name=name, folder=kind.folder and name.lower().replace(" ", "-"))


def customers(number: int = 300) -> Iterator[FleetRow]:
    """A fleet as it may look on an ordinary morning: most sites as they were, a few that need work."""
    kinds = {one.name: one for one in mixed()}
    for count in range(number):
        kind = kinds["Quiet go"]
        for every, name in ((97, "Fresh hole"), (83, "Failed tonight"), (61, "Fell silent"), (53, "Fixed now")):
            if count % every == every // 2:
                kind = kinds[name]
        for every, name in ((29, "Old hole"), (37, "Still silent"), (41, "Ends soon"), (140, "Failing long")):
            if count % every == every // 2:
                kind = kinds[name]
        name = f"Customer {count:03}"
        address = f"198.51.100.{count % 250 + 1}"
        yield replace(kind, name=name, folder=name.lower().replace(" ", "-"), addresses=(address,))
