"""Nmap through python-nmap, as a process of its own: ``python -m exposure_scan.nmap.child``.

The only module that imports python-nmap, which is GPL-3.0. It reads one JSON document on standard input
(``address``, ``tcp``, ``udp``, ``rate``, ``seconds``, ``privileged``) and writes Nmap's XML on standard output. Where
there is none, it writes one sentence on standard error.

What Nmap may send is fixed here. No ping, no names looked up, no version, script or system detection; and
``--data-length 0``, without which Nmap puts its own words into datagrams to known ports, an SNMP community and a
file name for TFTP among them.
"""

from __future__ import annotations

import json
import os
import shutil
from ipaddress import ip_address

_MOST_INPUT = 1 << 20
_MOST_PORTS = 4096
_TRIES = 3  # repetitions of a question that was not answered


def arguments(version: int, *, udp: bool, rate: float, seconds: int, privileged: bool) -> str:
    """The options of Nmap, without address and ports.

    Args:
        version: of IP, 4 or 6.
        udp: whether UDP ports are asked; only with privilege.
        rate: packets a second at most.
        seconds: after which Nmap gives up on the host.
        privileged: whether Nmap may make packets itself; else it connects as any program.
    """
    # Without raw packets there is no payload to leave out, and Nmap would warn of the option.
    kind = f"-sS{' -sU' * udp} --data-length 0" if privileged else "-sT"
    return (
        f"{'-6 ' * (version == 6)}-n -Pn --reason {kind} --max-rate {rate:g} --max-retries {_TRIES} "
        f"--host-timeout {seconds:d}s"
    )


def run(document: bytes) -> bytes:
    """Run Nmap as the document says, and return its XML.

    Raises:
        ValueError: with one sentence that says why there is none.
    """
    wanted = json.loads(document)
    if not isinstance(wanted, dict):
        raise ValueError("The order for Nmap is no JSON object.")
    text = str(wanted["address"])
    if "%" in text:  # what follows it may be any text, and python-nmap splits its host as a shell does
        raise ValueError("The address for Nmap has a zone.")
    address = ip_address(text)
    privileged = wanted["privileged"] is True
    tcp = _ports(wanted["tcp"])
    udp = _ports(wanted["udp"]) if privileged else []
    ports = ",".join(f"{mark}:{','.join(map(str, some))}" for mark, some in (("T", tcp), ("U", udp)) if some)
    if not tcp:
        raise ValueError("There is no TCP port to ask.")
    words = arguments(
        address.version,
        udp=bool(udp),
        rate=max(1.0, min(float(wanted["rate"]), 10_000.0)),
        seconds=max(1, min(int(wanted["seconds"]), 3600)),
        privileged=privileged,
    )
    try:
        import nmap  # type: ignore[import-untyped]  # python-nmap, not this package
    except ImportError:
        raise ValueError(
            "The package python-nmap is not installed; install it with: pip install 'exposure-scan[nmap]'."
        ) from None
    try:
        scanner = nmap.PortScanner((shutil.which("nmap") or "nmap",))
    except nmap.PortScannerError:
        raise ValueError("Nmap is not installed on this machine; install the package nmap.") from None
    try:
        scanner.scan(str(address), ports=ports, arguments=words)
    except nmap.PortScannerError as error:
        said = " ".join(str(error.value).split())[:300]
        raise ValueError(f"Nmap failed: {said or 'it did not say why'}.") from None
    xml = scanner.get_nmap_last_output()
    return xml if isinstance(xml, bytes) else str(xml).encode()


def _ports(value: object) -> list[int]:
    if not isinstance(value, list) or len(value) > _MOST_PORTS:
        raise ValueError("The ports for Nmap are no list, or too many.")
    ports = [int(port) for port in value]
    if not all(1 <= port <= 65535 for port in ports):
        raise ValueError("One of the ports for Nmap is none.")
    return ports


def main() -> None:
    """Read the order, run Nmap, write what it wrote."""
    document = b""
    while piece := os.read(0, 65536):
        document += piece
        if len(document) > _MOST_INPUT:
            break
    try:
        answer = run(document)
    except Exception as error:  # the process has one way to say so
        word = (
            str(error) if isinstance(error, ValueError) else f"Nmap could not be run ({type(error).__name__}: {error})."
        )
        os.write(2, f"{word}\n".encode("utf-8", "replace"))
        return
    while answer:
        answer = answer[os.write(1, answer) :]


if __name__ == "__main__":
    main()
