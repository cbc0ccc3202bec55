"""Send records to the application's own structlog, as it is configured there; this library never configures it."""

from __future__ import annotations

import contextlib
import time
import warnings
from typing import Any, Final

from bursar.words.errors import BursarWarning

SLOW_S: Final = 0.1
"""Above this an event counts as slow: a model call takes seconds, and its end should not wait for a log."""
MOST_SLOW: Final = 3
"""After so many slow events no more are sent: what they would tell is in the ledger."""


class AppLog:
    """Events `bursar.model_call`, `.tool_call`, `.verdict` and `.run` for `structlog.get_logger("bursar")`.

    Sent by the calling thread, so that context variables and `structlog.testing.capture_logs` work. An exception of
    the application's processors becomes one `BursarWarning`; processors that are slow three times are left alone.
    """

    def __init__(self) -> None:
        self._logger: Any = None
        self._warned = False
        self._slow = 0

    def append(self, event: str, fields: dict[str, Any]) -> None:
        """Send one event; never raises."""
        if self._slow >= MOST_SLOW:
            return
        began = time.monotonic()
        try:
            if self._logger is None:
                import structlog

                self._logger = structlog.get_logger("bursar")
            answer = self._logger.info(event, **fields)
        except Exception as error:  # noqa: BLE001 - the processors are the application's
            self._say(f"raised {type(error).__name__}; such events are lost")
            return
        if hasattr(answer, "__await__"):
            with contextlib.suppress(Exception):
                answer.close()
            self._say("is asynchronous and cannot be used from here; configure a synchronous wrapper class")
        if time.monotonic() - began > SLOW_S:
            self._slow += 1
            if self._slow == MOST_SLOW:
                self._say(f"took longer than {SLOW_S} s for {MOST_SLOW} events; no more are sent to it", again=True)

    def close(self) -> None:
        """Nothing is open here: what was sent is the application's."""

    def _say(self, what: str, *, again: bool = False) -> None:
        if not self._warned or again:
            self._warned = True
            with contextlib.suppress(BursarWarning):
                warnings.warn(f"the application's structlog {what}; the ledger has all", BursarWarning, stacklevel=3)
