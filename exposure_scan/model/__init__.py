"""The frozen types that cross every border between rooms, and their JSON form.

Everything a later stage, a saved scan or a report knows about a site stands in these types. This
room imports nothing of ours, so any room may import it. `Scan` is the JSON document
``exposure-scan/scan/1``; its JSON Schema is generated from here.
"""

from __future__ import annotations

from .fleet import SOON_DAYS, Expiry, Fleet, FleetRow, Turns
from .past import Change, Doors, Past, Point, Turn
from .scan import (
    SCHEMA,
    Alive,
    Dark,
    Declarations,
    Device,
    Evidence,
    Finding,
    Hop,
    Host,
    Opinion,
    Origin,
    Pack,
    Path,
    Port,
    Purpose,
    RouterError,
    Scan,
    Scanner,
    SecondOpinion,
    Step,
    Support,
    Sweep,
    Swept,
    Tls,
)
from .site import Address, Authorization, Declaration, Presence, Question, Site, Target, Vantage, Waiver
from .words import DeviceClass, Echo, Frozen, PortState, Problem, Severity, Status, Verdict

__all__ = [
    "SCHEMA",
    "SOON_DAYS",
    "Address",
    "Alive",
    "Authorization",
    "Change",
    "Dark",
    "Declaration",
    "Declarations",
    "Device",
    "DeviceClass",
    "Doors",
    "Echo",
    "Evidence",
    "Expiry",
    "Finding",
    "Fleet",
    "FleetRow",
    "Frozen",
    "Hop",
    "Host",
    "Opinion",
    "Origin",
    "Pack",
    "Past",
    "Path",
    "Point",
    "Port",
    "PortState",
    "Presence",
    "Problem",
    "Purpose",
    "Question",
    "RouterError",
    "Scan",
    "Scanner",
    "SecondOpinion",
    "Severity",
    "Site",
    "Status",
    "Step",
    "Support",
    "Sweep",
    "Swept",
    "Target",
    "Tls",
    "Turn",
    "Turns",
    "Vantage",
    "Verdict",
    "Waiver",
]
