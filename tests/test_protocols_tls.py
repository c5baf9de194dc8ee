"""What stands out about a certificate, by the day on which it was seen. Reading one is tested over real sessions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from exposure_scan.model import Tls
from exposure_scan.protocols.tls import certificate_notes

SEEN = datetime(2026, 11, 24, 12, tzinfo=UTC)
FINE = Tls(version="TLSv1.3", not_before=datetime(2026, 1, 1, tzinfo=UTC), not_after=datetime(2027, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("more", "notes"),
    [
        ({}, ()),
        ({"not_after": datetime(2026, 11, 24, 11, tzinfo=UTC)}, ("The certificate expired on 2026-11-24.",)),
        ({"not_after": datetime(2010, 1, 2, tzinfo=UTC)}, ("The certificate expired on 2010-01-02.",)),
        (
            {"not_after": datetime(2026, 11, 25, 11, tzinfo=UTC)},
            ("The certificate expires on 2026-11-25, within a day.",),
        ),
        ({"not_after": datetime(2026, 11, 25, 13, tzinfo=UTC)}, ("The certificate expires on 2026-11-25, in 1 day.",)),
        (
            {"not_after": datetime(2026, 12, 24, 12, tzinfo=UTC)},
            ("The certificate expires on 2026-12-24, in 30 days.",),
        ),
        ({"not_after": datetime(2026, 12, 24, 12, 1, tzinfo=UTC)}, ()),
        ({"not_after": datetime(2026, 11, 24, 11)}, ("The certificate expired on 2026-11-24.",)),  # noqa: DTZ001
        (
            {"not_before": datetime(2026, 11, 25, tzinfo=UTC)},
            ("The certificate is valid only from 2026-11-25 on.",),
        ),
        ({"not_before": None, "not_after": None}, ()),
        (
            {"version": "TLSv1"},
            ("It chose TLS 1.0, which is out of use (RFC 8996, 2021), although newer versions were offered.",),
        ),
        ({"version": "TLSv1.2"}, ()),
    ],
)
def test_what_stands_out_about_a_certificate_depends_on_when_it_was_seen(
    more: dict[str, object], notes: tuple[str, ...]
) -> None:
    assert certificate_notes(FINE.model_copy(update=more), SEEN) == notes


def test_several_notes_stand_side_by_side() -> None:
    old = FINE.model_copy(update={"version": "TLSv1.1", "not_after": datetime(2020, 1, 1, tzinfo=UTC)})
    assert [note.split(" ")[1] for note in certificate_notes(old, SEEN)] == ["certificate", "chose"]
