"""The JSON document: it comes back as it went, fits its published schema, and refuses what is not it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import samples
import samples_doubt

from exposure_scan import report
from exposure_scan.model import Problem, Scan

SCHEMA = Path(__file__).parent.parent / "docs" / "scan.schema.json"
every_sample = pytest.mark.parametrize("sample", [*samples.ALL, *samples_doubt.ALL], ids=lambda sample: sample.__name__)


@every_sample
def test_a_saved_scan_comes_back_equal(sample: Callable[[], Scan]) -> None:
    scan = sample()
    assert report.load_scan(scan.to_json()) == scan
    assert report.load_scan(scan.to_json()).to_json() == scan.to_json()


def test_the_published_schema_is_the_one_of_the_types() -> None:
    assert SCHEMA.read_text("utf-8") == report.schema_json(), "write docs/scan.schema.json anew"


@every_sample
def test_a_scan_fits_the_published_schema(sample: Callable[[], Scan]) -> None:
    schema = json.loads(SCHEMA.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    document = json.loads(sample().to_json())
    assert list(validator.iter_errors(document)) == []
    spoils: tuple[dict[str, object], ...] = (
        {"schema": "exposure-scan/scan/2"},
        {"verdict": "fine"},
        {"extra": 1},
        {"hosts": [{}]},
    )
    for spoiled in spoils:
        assert list(validator.iter_errors(document | spoiled))
    assert list(validator.iter_errors({key: document[key] for key in document if key != "schema"}))


GOOD = json.loads(samples.silent_site().to_json())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "This is not JSON"),
        ("{", "This is not JSON"),
        ("[" * 100_000, "This is not JSON"),
        ("null", 'it lacks "schema"'),
        ("[]", 'it lacks "schema"'),
        ('{"schema": 1}', 'it lacks "schema"'),
        ('{"schema": "cyclonedx"}', 'of schema "cyclonedx"'),
        ('{"schema": "x\\u001b[31m\\u202e"}', 'of schema "x"'),
        (json.dumps(GOOD | {"schema": "exposure-scan/scan/2"}), "A newer exposure-scan saved this scan"),
        (json.dumps(GOOD | {"schema": "exposure-scan/scan/0"}), 'of schema "exposure-scan/scan/0"'),
        (json.dumps(GOOD | {"verdict": "fine"}), "damaged at verdict"),
        (json.dumps(GOOD | {"more\u001b[31m": 1}), "damaged at more: "),
        (json.dumps(GOOD | {"hosts": [GOOD["hosts"][0] | {"echo": 3}]}), "damaged at hosts[0].echo"),
        (json.dumps(GOOD).replace('"rtt_ms": null', '"rtt_ms": NaN', 1), "This is not JSON"),
        (json.dumps(GOOD | {"started": "0001-01-01T00:00:00+01:00"}), "damaged at started"),
        (json.dumps(GOOD | {"finished": "9999-12-31T23:59:59Z"}), "damaged at finished"),
        (
            json.dumps(GOOD | {"authorization": {"by": "x", "until": "9999-12-31T23:59:59-12:00"}}),
            "damaged at authorization.until: Value error, a moment within the years 1 to 9999 is expected.",
        ),
        (json.dumps(GOOD | {f"key{i}": i for i in range(9)}), "4 more such places"),
    ],
)
def test_what_is_no_scan_is_refused_in_a_sentence(text: str, told: str) -> None:
    with pytest.raises(Problem) as caught:
        report.load_scan(text)
    assert told in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert "\u202e" not in str(caught.value)
    assert all(len(sentence) < 400 for sentence in caught.value.sentences)
