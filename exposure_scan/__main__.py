"""Entry point of the command: `exposure-scan` and `python -m exposure_scan`."""

import sys


def main() -> None:
    """Run the command line; ``--version`` is answered before anything is imported for it."""
    if sys.argv[1:] == ["--version"]:
        from . import __version__

        sys.stdout.write(f"exposure-scan {__version__}\n")
        return
    from .cli import run

    run()


if __name__ == "__main__":
    main()
