"""What people run: `bursar ...`. Commands load what they need when they run, so that `bursar --help` is quick."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; never ends in a traceback for what a person can mend."""
    given = sys.argv[1:]
    # Typer takes longer to load than the first screen to make, and longer than a coding agent should wait.
    if given in (["statusline"], ["statusline", "--no-import"]):
        from bursar.cli.status import print_line

        print_line(importing=len(given) == 1)
        return
    from bursar.cli.ends import ending

    with ending():
        # A shell that asks for completions gives no arguments either.
        if given or "_BURSAR_COMPLETE" in os.environ or not _first_screen():
            _command(given)


def _first_screen() -> bool:
    from bursar.cli.today import show_today

    return show_today()


def _command(given: list[str]) -> None:
    from bursar.cli.commands import COMMANDS, application

    app = application(given[:1]) if given and given[0] in COMMANDS else application()
    app()
