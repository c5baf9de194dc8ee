"""Files as Nmap writes them with ``-oX``.

`REAL` are two that Nmap 7.93 wrote of the practice site, inside the private network (``python -m exposure_scan.lab
-- nmap ...``; each names its command in its second line). Everything else here is synthetic.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from xml.sax.saxutils import quoteattr

from exposure_scan.sweep import imported

REAL = Path(__file__).parent / "data" / "nmap"
ADDRESS = "198.51.100.10"
START = 1_795_618_589  # 2026-11-25 14:56:29 UTC

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE nmaprun>\n'
PLANNED_TCP = "4,21-23,25,53,80,110,143,443,465,587,993,995,1723,2000,3389,5060-5061,8080-8081,8443"
PLANNED_UDP = "53,69,123,161,500,1701,2088,4500,5060-5061"


def port(key: str, state: str, reason: str, inside: str = "", **more: object) -> str:
    """A `port` element; `more` are further attributes of its state."""
    transport, _, number = key.partition("/")
    told = "".join(f" {name}={quoteattr(str(value))}" for name, value in {"reason_ttl": 60, **more}.items())
    said = f'<state state="{state}" reason="{reason}"{told}/>'
    return f'<port protocol="{transport}" portid="{number}">{said}{inside}</port>'


def service(name: str, method: str = "probed", **more: str) -> str:
    told = "".join(f" {key}={quoteattr(value)}" for key, value in more.items())
    return f'<service name="{name}" method="{method}" conf="10"{told}/>'


def script(name: str, output: str, inside: str = "") -> str:
    return f'<script id="{name}" output={quoteattr(output)}>{inside}</script>'


def rest(state: str, *groups: tuple[str, str, str]) -> str:
    """`extraports`: state, and (protocol, reason, ports) each."""
    rows = "".join(
        f'<extrareasons reason="{reason}" count="{count(ports)}" proto="{protocol}" ports="{ports}"/>'
        for protocol, reason, ports in groups
    )
    return f'<extraports state="{state}" count="{sum(count(ports) for _, _, ports in groups)}">{rows}</extraports>'


def count(ports: str) -> int:
    ends = (part.split("-") for part in ports.split(","))
    return sum(int(pair[-1]) - int(pair[0]) + 1 for pair in ends)


def host(ports: Iterable[str] = (), address: str = ADDRESS, state: str = "up", reason: str = "user-set") -> str:
    kind = "ipv6" if ":" in address else "ipv4"
    return (
        f'<host starttime="{START}" endtime="{START + 2}"><status state="{state}" reason="{reason}" reason_ttl="0"/>\n'
        f'<address addr="{address}" addrtype="{kind}"/>\n<hostnames>\n</hostnames>\n'
        f"<ports>{''.join(ports)}\n</ports>\n</host>\n"
    )


def scaninfo(tcp: str = "", udp: str = "") -> str:
    return "".join(
        f'<scaninfo type="{kind}" protocol="{protocol}" numservices="{count(ports)}" services="{ports}"/>\n'
        for kind, protocol, ports in (("syn", "tcp", tcp), ("udp", "udp", udp))
        if ports
    )


def document(
    *hosts: str, info: str = "", end: str = 'exit="success"', scanner: str = "nmap", head: str = HEAD
) -> bytes:
    return (
        f'{head}<nmaprun scanner="{scanner}" args="nmap -oX file.xml" start="{START}" version="7.93" '
        f'xmloutputversion="1.05">\n{info}{"".join(hosts)}'
        f'<runstats><finished time="{START + 3}" elapsed="3.00" {end}/><hosts up="1" down="0" total="1"/>\n'
        "</runstats>\n</nmaprun>\n"
    ).encode()


def all_refused(address: str = ADDRESS) -> str:
    """Every port of the default plan refused by the host itself, and ping answered."""
    groups = [("tcp", "reset", PLANNED_TCP), ("udp", "port-unreach", PLANNED_UDP)]
    return host([rest("closed", *groups)], address, reason="echo-reply")


def read(data: bytes, *addresses: str, **words: str) -> imported.Imported:
    """Judge a file, as the command does."""
    return imported.from_nmap(BytesIO(data), "file.xml", addresses=addresses, **words)  # type: ignore[arg-type]


WHOLE = document(
    host(
        [
            rest("closed", ("tcp", "reset", "4,21-23,53,443"), ("udp", "port-unreach", "53,69")),
            port("tcp/25", "open", "syn-ack", service("smtp") + script("banner", "220 pbx.invalid ESMTP (synthetic)")),
            port("tcp/8080", "open", "syn-ack", service("http", "table")),
            port("tcp/143", "filtered", "no-response"),
            port("udp/5060", "open|filtered", "no-response", service("sip", "table")),
            port("tcp/5060", "filtered", "admin-prohibited", reason_ip="198.51.100.1"),
        ]
    )
)
"""A file with a little of everything. Synthetic."""
