"""The commands that judge what others recorded: a capture, or a scan of Nmap's. Nothing is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import (
    DeviceOption,
    EvidenceFile,
    Expect,
    HtmlFile,
    JsonFile,
    Output,
    Present,
    Quiet,
    Verbose,
    VoicemailPorts,
    site_words,
)
from .shared import Packs, Templates, known


def replay_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A capture of tcpdump's or Wireshark's: pcap, pcapng.")],
    address: Annotated[list[str], typer.Option(help="The site's address in it; may be given often.")],
    device: DeviceOption = None,
    expect: Expect = None,
    voicemail_ports: VoicemailPorts = None,
    present: Present = None,
    json_file: JsonFile = None,
    html: HtmlFile = None,
    templates: Templates = None,
    evidence: EvidenceFile = None,
    packs: Packs = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Judge a site by a capture of what others asked it. Nothing is sent.

    What the capture does not hold is not measured, so a GO needs one in which every question was asked.
    """
    from exposure_scan.sweep.replayed import replayed

    output = Output(json_file, html, evidence, quiet, verbose, templates)
    fingerprints = known(packs)
    output.check()
    seen = replayed(file, address, known=fingerprints, **site_words(device, expect, voicemail_ports, present))
    output.write(seen.result, seen.notes)


def import_nmap(
    file: Annotated[Path, typer.Argument(metavar="FILE.xml", help="What Nmap wrote with -oX.")],
    address: Annotated[
        list[str] | None,
        typer.Option("--address", help="The site's address, where the file holds several; may be given often."),
    ] = None,
    device: DeviceOption = None,
    expect: Expect = None,
    voicemail_ports: VoicemailPorts = None,
    present: Present = None,
    json_file: JsonFile = None,
    html: HtmlFile = None,
    templates: Templates = None,
    evidence: EvidenceFile = None,
    packs: Packs = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Judge what Nmap saw, from its XML. Nothing is sent."""
    from exposure_scan import sweep
    from exposure_scan.model import Problem
    from exposure_scan.sweep import imported

    output = Output(json_file, html, evidence, quiet, verbose, templates)
    output.check()
    words = site_words(device, expect, voicemail_ports, present)
    try:
        with file.open("rb") as opened:
            read = imported.from_nmap(opened, file.name, addresses=address or (), known=known(packs), **words)
    except OSError as error:
        raise Problem(f"{file} cannot be read ({error.strerror}); give a file that Nmap wrote with -oX.") from None
    output.write(sweep.Result(read.scan, None), () if quiet else read.notes)
