"""Attached by nothing at all: what LangChain calls inside of a run is gated and metered without being passed a handler.

Importing this registers one hook with LangChain, once, unless one stands there already that was registered while
LangChain was imported inside of a run. The hook asks for a context variable's value; ours answers with the handler
wherever a run is open, so that there is nothing to set and nothing to take back.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final, cast

from langchain_core.runnables.retry import RunnableRetry
from langchain_core.tracers.context import register_configure_hook
from tenacity import retry_if_not_exception_type

from bursar.callbacks.langchain import BursarCallbackHandler
from bursar.runs.hook import late
from bursar.runs.scoped import scoped_frame
from bursar.words.errors import Stopped

if TYPE_CHECKING:
    from contextvars import ContextVar
    from logging import LogRecord

HANDLER: Final = BursarCallbackHandler(per="scope")
"""The handler of every run that is open. It opens none itself."""


class _Scope:
    """A context variable as far as LangChain looks at one: the handler where a run is open, else None."""

    def get(self) -> BursarCallbackHandler | None:
        return None if scoped_frame() is None else HANDLER


def _let_stops_pass() -> None:
    # `.with_retry()` retries every Exception, and there is no way but this to say that a stop is not worth a retry.
    had: Any = RunnableRetry.__dict__.get("_kwargs_retrying")
    if not isinstance(had, property) or had.fget is None:
        return
    read = had.fget

    def _kwargs_retrying(self: Any) -> dict[str, Any]:
        asked: dict[str, Any] = read(self)
        if "retry" in asked:
            asked["retry"] = retry_if_not_exception_type(Stopped) & asked["retry"]
        return asked

    RunnableRetry._kwargs_retrying = property(_kwargs_retrying)  # type: ignore[assignment,method-assign]  # noqa: SLF001


def _say_nothing_of_stops() -> None:
    # LangChain warns of an error in a handler before it raises it. A stop is none: it is what the caller shall get.
    def is_no_stop(_: LogRecord) -> bool:
        return not isinstance(sys.exception(), Stopped)

    logging.getLogger("langchain_core.callbacks.manager").addFilter(is_no_stop)


if not late.attached:
    register_configure_hook(cast("ContextVar[Any]", _Scope()), inheritable=True)
_let_stops_pass()
_say_nothing_of_stops()
