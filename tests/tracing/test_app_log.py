"""Events in the application's own structlog: by its configuration, and never at the cost of a call."""

from __future__ import annotations

import asyncio
import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import structlog

import bursar
from bursar import BursarWarning
from bursar.runs.process import process
from bursar.tracing.app_log import MOST_SLOW, SLOW_S, AppLog
from bursar.tracing.queries import Reader
from bursar.words.clock import new_id
from bursar.words.records import RunRecord, Tags, Who

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    """Whatever a test configures is undone."""
    yield
    structlog.reset_defaults()


def one_run() -> None:
    """Write what a run that opens and ends writes."""
    opened = RunRecord(new_id(), None, Who(Tags("w", feature="inbox")), 1)
    for record in (opened, replace(opened, ended_us=2)):
        process().desk.sink.write(record)


def test_records_are_events_of_the_application() -> None:
    """A run that opens and ends is two events, with its tags and the context that the application bound."""
    bursar.configure(trace="structlog")
    structlog.contextvars.bind_contextvars(request="r-1")
    try:
        with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as events:
            one_run()
    finally:
        structlog.contextvars.clear_contextvars()
    assert [event["event"] for event in events] == ["bursar.run", "bursar.run"]
    assert [(event["workflow"], event["feature"], event["request"]) for event in events] == [("w", "inbox", "r-1")] * 2


def test_a_later_configuration_is_obeyed_and_none_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    """The application may configure after the first event; this library never does."""
    bursar.configure(trace="structlog")
    seen: list[Any] = []

    def collect(_: Any, __: str, event: Any) -> Any:
        seen.append(event["event"])
        raise structlog.DropEvent

    one_run()
    assert capsys.readouterr().out.count("bursar.run") == 2
    assert not structlog.is_configured()
    structlog.configure(processors=[collect])
    one_run()
    assert seen == ["bursar.run", "bursar.run"]


def test_an_exception_of_a_processor_stays_there() -> None:
    """One warning for all of them; the run goes on and the ledger has it."""
    bursar.configure(trace="structlog")

    def broken(_: Any, __: str, event: Any) -> Any:
        raise ZeroDivisionError("sk-secret")

    structlog.configure(processors=[broken])
    with pytest.warns(BursarWarning, match="raised ZeroDivisionError") as said:
        one_run()
        one_run()
    assert len(said) == 1
    assert "sk-secret" not in str(said[0].message)
    with Reader(process().ledger.path) as reader:
        assert len(reader.runs()) == 2


def test_where_warnings_are_errors_a_broken_processor_still_stops_nothing() -> None:
    """The run ends as it would have."""

    def broken(_: Any, __: str, event: Any) -> Any:
        raise ZeroDivisionError

    bursar.configure(trace="structlog")
    structlog.configure(processors=[broken])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one_run()


def test_slow_processors_are_left_alone() -> None:
    """After three slow events a warning says so, and no further one is sent."""
    sent = 0

    def slow(_: Any, __: str, event: Any) -> Any:
        nonlocal sent
        sent += 1
        time.sleep(1.2 * SLOW_S)
        raise structlog.DropEvent

    structlog.configure(processors=[slow])
    log = AppLog()
    with pytest.warns(BursarWarning, match="longer than"):
        for _ in range(MOST_SLOW + 3):
            log.append("bursar.run", {})
    assert sent == MOST_SLOW


def test_an_asynchronous_logger_is_named() -> None:
    """Nobody awaits here: a warning that says what to configure."""

    async def send() -> None:
        AppLog().append("bursar.run", {})

    structlog.configure(wrapper_class=structlog.stdlib.AsyncBoundLogger)
    with pytest.warns(BursarWarning, match="asynchronous"):
        asyncio.run(send())
