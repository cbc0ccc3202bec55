"""What people run: `bursar ...`. Commands load what they need when they run, so that `bursar --help` is quick."""

from __future__ import annotations


def main() -> None:
    """Run the command line; never ends in a traceback for what a person can mend."""
    from bursar.cli.app import run

    run()
