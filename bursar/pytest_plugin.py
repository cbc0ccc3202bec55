"""pytest: what tests spend on models, and a limit on it.

    @pytest.mark.budget(usd="0.05")          # as `Budget`: tokens=, model_calls=, ... too
    def test_triage(client): ...

A marked test runs inside a run of its own: a call that does not fit is refused before it is sent, and the test fails,
also where it catches that. `--bursar-spend` measures the others too. Nothing of bursar is loaded before it is needed.
"""

from __future__ import annotations

import warnings
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from bursar.runs.run import Run

_PROPERTY: Final = "bursar_usd"
_MARKER: Final = 'budget(usd="0.05", ...): what a test may spend on models; a call beyond it fails the test'
_SHOWN: Final = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--bursar-spend`."""
    parser.getgroup("bursar").addoption(
        "--bursar-spend", action="store_true", help="measure what every test spends on models, not only marked ones"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run a test inside a run of its own where it is marked, or all are measured."""
    marker = item.get_closest_marker("budget")
    if marker is None and not item.config.getoption("--bursar-spend"):
        return (yield)
    from bursar import Budget, run

    if marker is None:
        opened = run("pytest", Budget.unlimited(), feature=item.nodeid)
        with warnings.catch_warnings():
            # That no call was seen is no news of a test that nobody said makes any.
            warnings.filterwarnings("ignore", "run 'pytest' ended and saw no model call")
            return (yield from _measured(item, opened))
    if marker.args:
        pytest.fail('budget takes names: @pytest.mark.budget(usd="0.05")', pytrace=False)
    result = yield from _measured(item, run("pytest", Budget(**marker.kwargs), feature=item.nodeid))
    _check(item.stash[_RUN])
    return result


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what tests have spent, the dearest first."""
    spent = [
        (Decimal(str(value)), report.nodeid)
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == _PROPERTY and getattr(report, "when", None) == "call"
    ]
    if not spent:
        return
    terminalreporter.section("spent on models")
    for dollars, test in sorted(spent, key=lambda each: (-each[0], each[1]))[:_SHOWN]:
        terminalreporter.write_line(f"${dollars:f}  {test}")
    terminalreporter.write_line(f"${sum(dollars for dollars, _ in spent):f} in {len(spent)} tests")


_RUN: Final = pytest.StashKey["Run"]()


def _measured(item: pytest.Item, opened: Any) -> Generator[None, Any, Any]:
    with opened as run:
        item.stash[_RUN] = run
        try:
            return (yield)
        finally:
            # Reports of tests cross from the processes of pytest-xdist with their properties.
            item.user_properties.append((_PROPERTY, str(run.spend.usd)))


def _check(run: Run) -> None:
    from bursar.runs.process import process
    from bursar.tracing.queries import Reader

    for unit, left in run.remaining.items():
        if left < 0:
            pytest.fail(f"the test spent {-left} {unit} more than its budget: {run}", pytrace=False)
    with Reader(process().ledger.path) as reader:
        refused = [verdict for verdict in reader.verdicts(reader.family(run.id)) if verdict.action == "deny"]
    if refused:
        pytest.fail(f"the test's budget refused {len(refused)} calls, and the test went on: {run}", pytrace=False)
