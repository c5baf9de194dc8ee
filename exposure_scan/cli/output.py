"""What the commands that end in a judged scan share: the words about the site, and where the result goes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeAlias

import typer

from .screen import complain, show, write
from .shared import GO, INCONCLUSIVE, NO_GO, DeviceWord

if TYPE_CHECKING:
    from exposure_scan import scope, sweep
    from exposure_scan.model import Scan

DeviceOption: TypeAlias = Annotated[
    DeviceWord | None,
    typer.Option("--device", help="What stands there, declared by you: nobody can see it all from outside."),
]
Expect: TypeAlias = Annotated[
    str | None, typer.Option(help="Services meant to be open, as udp/5060,tcp/443.", metavar="LIST")
]
VoicemailPorts: TypeAlias = Annotated[
    str | None, typer.Option(help="Where voicemail was moved, as smtp=2525,imap=1143.", metavar="LIST")
]
Present: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Who confirmed that this address is the live site, and how; for sites that stay silent."),
]
JsonFile: TypeAlias = Annotated[
    str | None, typer.Option("--json", help="Write the scan as JSON; - is standard output.", metavar="FILE")
]
HtmlFile: TypeAlias = Annotated[Path | None, typer.Option("--html", help="Write the HTML report.", metavar="FILE")]
EvidenceFile: TypeAlias = Annotated[
    Path | None, typer.Option("--evidence", help="Write the bundle that `verify` reads.", metavar="FILE")
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Print the verdict line only.")]
Verbose: TypeAlias = Annotated[bool, typer.Option("--verbose", "-v", help="Print every port and every practice.")]


def site_words(
    device: DeviceWord | None, expect: str | None, voicemail_ports: str | None, present: str | None
) -> scope.Words:
    """What the operator says about a site, in the words of `scope`."""
    return {
        "device": device.value if device else None,
        "expect": expect,
        "voicemail_ports": voicemail_ports,
        "present": present,
    }


@dataclass(frozen=True, slots=True)
class Output:
    """Where a judged scan goes."""

    json: str | None
    html: Path | None
    evidence: Path | None
    quiet: bool
    verbose: bool
    templates: Path | None = None

    @property
    def json_path(self) -> Path | None:
        """The file of the JSON; None where there is none, or where it is standard output."""
        return None if self.json in (None, "-") else Path(str(self.json))

    def check(self) -> None:
        """Find mistakes before anything is sent or read.

        Raises:
            Problem: a file cannot be written, or a template is wrong.
        """
        if self.templates is not None:
            from exposure_scan import report

            report.check_templates(self.templates)
        paths = [path for path in (self.html, self.evidence, self.json_path) if path is not None]
        if paths:
            from exposure_scan import files

            for path in paths:
                files.check_writable(path)

    def write(self, result: sweep.Result, notes: Iterable[str] = ()) -> NoReturn:
        """Write and print the result, tell the notes on standard error, and end with the verdict's code.

        Raises:
            Exit: always.
        """
        from exposure_scan import report, sweep

        complain(*notes)
        if self.evidence is not None:
            sweep.write_bundle(self.evidence, result)
        if self.json == "-":
            write(result.scan.to_json())
        else:
            if self.json_path is not None:
                from exposure_scan import files

                files.write_file(self.json_path, result.scan.to_json())
            show(report.summary(result.scan, quiet=self.quiet, verbose=self.verbose))
        if self.html is not None:  # last: a mistake in a template of one's own loses nothing of the scan
            from exposure_scan import files

            files.write_file(self.html, sweep.render(result.scan, "html", templates=self.templates))
        raise typer.Exit(_code(result.scan))


def _code(scan: Scan) -> int:
    from exposure_scan.model import Verdict

    return {Verdict.GO: GO, Verdict.NO_GO: NO_GO, Verdict.INCONCLUSIVE: INCONCLUSIVE}[scan.verdict]
