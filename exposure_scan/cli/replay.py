"""The command that judges a capture of somebody else's. Nothing is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shared import GO, INCONCLUSIVE, NO_GO, DeviceWord, Packs, Templates, console, known

REPLAY_EXAMPLE = "Example: exposure-scan replay capture.pcap --address 198.51.100.10"


def replay_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A capture of tcpdump's or Wireshark's: pcap, pcapng.")],
    address: Annotated[list[str], typer.Option(help="The site's address in it; may be given often.")],
    device: Annotated[
        DeviceWord | None, typer.Option(help="What stands there, declared by you: nobody can see it all from outside.")
    ] = None,
    expect: Annotated[
        str | None, typer.Option(help="Services meant to be open, as udp/5060,tcp/443.", metavar="LIST")
    ] = None,
    voicemail_ports: Annotated[
        str | None, typer.Option(help="Where voicemail was moved, as smtp=2525,imap=1143.", metavar="LIST")
    ] = None,
    present: Annotated[
        str | None,
        typer.Option(help="Who confirmed that this address is the live site, and how; for sites that stay silent."),
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write the scan as JSON; - is standard output.", metavar="FILE")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the HTML report.", metavar="FILE")] = None,
    templates: Templates = None,
    evidence: Annotated[Path | None, typer.Option(help="Write the bundle that `verify` reads.", metavar="FILE")] = None,
    packs: Packs = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the verdict line only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every port and every practice.")] = False,
) -> None:
    """Judge a site by a capture of what others asked it. Nothing is sent.

    What the capture does not hold is not measured, so a GO needs one in which every question was asked.
    """
    from exposure_scan import evidence as files
    from exposure_scan import report, scope, sweep
    from exposure_scan.model import Verdict
    from exposure_scan.sweep.replayed import replayed

    words: scope.Words = {
        "device": device.value if device else None,
        "expect": expect,
        "voicemail_ports": voicemail_ports,
        "present": present,
    }
    fingerprints = known(packs)
    if templates is not None:
        report.check_templates(templates)
    for path in (html, evidence, None if json_file in (None, "-") else Path(json_file)):
        if path is not None:
            files.check_writable(path)
    seen = replayed(file, address, known=fingerprints, **words)
    scan = seen.result.scan
    for note in seen.notes:
        typer.echo(f"exposure-scan: {report.terminal_text(note, 400)}", err=True)
    if evidence is not None:
        sweep.write_bundle(evidence, seen.result)
    if json_file == "-":
        typer.echo(scan.to_json(), nl=False)
    else:
        if json_file is not None:
            files.write_file(Path(json_file), scan.to_json())
        console().print(report.summary(scan, quiet=quiet, verbose=verbose))
    if html is not None:  # last: a mistake in a template of one's own loses nothing of the scan
        files.write_file(html, sweep.render(scan, "html", templates=templates))
    raise typer.Exit({Verdict.GO: GO, Verdict.NO_GO: NO_GO, Verdict.INCONCLUSIVE: INCONCLUSIVE}[scan.verdict])
