"""What people run: `bursar ...`. Commands load what they need when they run, so that `bursar --help` is quick."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; never ends in a traceback for what a person can mend."""
    if sys.argv[1:] in (["statusline"], ["statusline", "--no-import"]):
        # Typer takes longer to load than a coding agent should wait.
        from bursar.cli.status import print_line

        print_line(importing=len(sys.argv) == 2)
        return
    from bursar.cli.app import run

    run()
