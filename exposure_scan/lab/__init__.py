"""The embedded practice site: emulated devices in a private network, for the demo, the tests and training.

Names are loaded when asked for, so that ``python -m exposure_scan.lab.namespace`` starts at once and
finds its own module not imported twice.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .devices import DEVICES as DEVICES
    from .devices import Device as Device
    from .devices import running as running
    from .devices import sites_file as sites_file
    from .namespace import NamespaceRefused as NamespaceRefused
    from .namespace import enter_and_run as enter_and_run
    from .namespace import explain as explain
    from .namespace import inside as inside

_HOMES = {
    "DEVICES": "devices",
    "Device": "devices",
    "running": "devices",
    "sites_file": "devices",
    "NamespaceRefused": "namespace",
    "enter_and_run": "namespace",
    "explain": "namespace",
    "inside": "namespace",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
