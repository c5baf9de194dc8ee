"""Make every capture from the recipe beside it. Run by `make pcaps`; the same recipe gives the same bytes."""

from __future__ import annotations

import recipes


def main() -> None:
    """Write each <name>.pcap beside its <name>.toml, and remove captures that have lost their recipe."""
    made = set()
    for path in recipes.paths():
        capture = path.with_suffix(".pcap")
        capture.write_bytes(recipes.read(path).rebuilt())
        made.add(capture)
    for capture in recipes.HERE.glob("*/*.pcap"):
        if capture.parent.name != "lab" and capture not in made:
            capture.unlink()


if __name__ == "__main__":
    main()
