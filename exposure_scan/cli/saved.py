"""The commands on saved scans: every format from one, and its findings derived once more."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .screen import complain, say, write
from .shared import NO_GO, Templates, known

if TYPE_CHECKING:
    from exposure_scan.model import Scan


class Format(StrEnum):
    """The formats of `report`."""

    HTML = "html"
    PDF = "pdf"
    MAIL_HTML = "mail-html"
    MAIL_TEXT = "mail-text"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    SARIF = "sarif"
    JUNIT = "junit"


def report_command(
    saved: Annotated[Path, typer.Argument(metavar="SCAN.json", help="A scan that was saved with --json.")],
    format_: Annotated[Format, typer.Option("--format", help="The format to write.")] = Format.HTML,
    earlier: Annotated[
        list[Path] | None,
        typer.Option(help="An earlier scan of the same site to hold it against; may be given often.", metavar="FILE"),
    ] = None,
    templates: Templates = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead.", metavar="FILE")] = None,
) -> None:
    """Write any format from a saved scan."""
    from exposure_scan import sweep
    from exposure_scan.model import Problem

    if out is not None:
        from exposure_scan import files

        files.check_writable(out)
    elif format_ is Format.PDF and sys.stdout.isatty():
        raise Problem("A PDF is no text for a terminal; give a file with --out.")
    scans = [_load(path) for path in earlier or ()]
    document = sweep.render(_load(saved), format_.value, earlier=scans, templates=templates)
    if out is not None:
        files.write_file(out, document)
    else:
        write(document)


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="An evidence.zip.")],
    rules: Annotated[
        str | None,
        typer.Option(
            help="What newer rules say of the old evidence: today, for those of this program, or a folder of "
            "fingerprint packs to use besides.",
            metavar="NEW",
        ),
    ] = None,
) -> None:
    """Derive the findings once more from their evidence and its packets, offline; a difference exits with 1."""
    from exposure_scan import evidence, report, sweep
    from exposure_scan.conversation import ReplayError

    newer = () if rules in (None, "today") else tuple(known(Path(rules)).packs.values())
    try:
        kept = evidence.read_bundle(bundle)
        saved = report.load_scan(kept.scan)
        made = sweep.rederive(saved, newer)
        found = sweep.disagreements(saved, kept.capture, bundle.name)
        found += sweep.differences(saved, made) if rules is None else sweep.changed(saved, made)
    except (ValueError, ReplayError) as error:
        complain(str(error))
        raise typer.Exit(NO_GO) from None
    complain(*found)
    if found:
        if rules is None and sweep.judged_otherwise(saved):
            complain(
                f"The scan was judged by other rules, those of version {saved.scanner.version}; "
                "findings may differ for that alone. What today's rules say of it: --rules today."
            )
        raise typer.Exit(NO_GO)
    packets = {"wire": " and its packets", "transcript": " and the transcript"}.get(kept.how, "")
    say(
        f"{saved.site.name}: {saved.verdict.upper()} holds. {len(saved.findings)} findings come out of "
        f"{len(saved.evidence)} pieces of evidence{packets} as they were saved."
    )


def _load(path: Path) -> Scan:
    from exposure_scan import report
    from exposure_scan.model import Problem

    try:
        return report.load_scan(path.read_text("utf-8"))
    except OSError as error:
        raise Problem(f"{path} cannot be read ({error.strerror}); give the name of a saved scan.") from None
    except UnicodeDecodeError:
        raise Problem(f"{path} is not text; give a scan that was saved with --json.") from None
    except Problem as problem:
        raise Problem(*(f"{path}: {sentence}" for sentence in problem.sentences)) from None
