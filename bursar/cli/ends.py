"""How every error ends: in a sentence and an exit code, never in a traceback for what a person can mend."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def ending() -> Iterator[None]:
    """End the process with its exit code where something is wrong."""
    from bursar.cli.console import complain
    from bursar.words.errors import BursarError, ConfigError

    try:
        yield
    except ConfigError as error:
        complain(str(error))
        sys.exit(2)
    except BursarError as error:
        complain(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read has left; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
