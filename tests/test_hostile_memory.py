"""What hosts that pour out bytes may cost us: a few megabytes more than hosts that are calm."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from hostile_hosts import Place, asking, scan_all

STREAMS = (
    "bomb",
    "certificate-many-names",
    "continue-flood",
    "endless",
    "endless-lines",
    "long-line",
    "many-fields",
    "sip-huge-body",
    "tickets",
)
PACKETS = ("icmp-flood", "sip-hundredfold", "sip-large", "udp-flood")
MORE = 4 * 1024 * 1024  # bytes for each host; a single bomb, unpacked, is 64 MB


def peak(traps: tuple[str, ...], net: int) -> int:
    """Bytes of our own objects at the worst moment of scanning these hosts at once."""
    hosts = [Place(trap, True, f"198.18.{net}.{number}") for number, trap in enumerate(traps, start=200)]
    tracemalloc.start()
    try:
        scan_all(hosts)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("way", ["raw", "ordinary"])
def test_memory_is_bounded_whatever_a_host_says(way: str, figure: Callable[[str, int], None]) -> None:
    with asking(way):
        calm = ("calm",) * (len(STREAMS) + len(PACKETS))
        peak(calm[:1], 66)  # what is loaded once
        quiet = peak(calm, 66)
        loud = peak(STREAMS, 66) + peak(PACKETS, 68)
    figure("hostile: kilobytes above a calm scan, on average", (loud - quiet) // 1024 // len(calm))
    assert loud - quiet <= MORE * len(calm)
