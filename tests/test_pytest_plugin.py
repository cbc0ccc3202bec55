"""`@pytest.mark.budget`: a test that spends more fails, and what tests have spent is said."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from bursar.tracing.queries import Reader

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

pytest_plugins = ["pytester"]

TESTS = """
import openai, pytest, bursar
from bursar.testing import Provider, Reply

@pytest.fixture(scope="module")
def gpt():
    with Provider(latency_s=0.0, replies=lambda request: Reply(output_tokens=100)) as provider:
        yield bursar.wrap(openai.OpenAI(base_url=provider.openai_url, api_key="x"))

def ask(gpt, times=1):
    for _ in range(times):
        gpt.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}], max_tokens=100)

@pytest.mark.budget(usd="0.05")
def test_fits(gpt):
    ask(gpt, 3)

@pytest.mark.budget(usd="0.0025")
def test_does_not_fit(gpt):
    ask(gpt, 3)

@pytest.mark.budget(model_calls=1)
def test_catches_the_stop(gpt):
    with pytest.raises(bursar.BudgetExceeded):
        ask(gpt, 2)

@pytest.mark.budget(model_calls=2)
def test_nests_runs_of_its_own(gpt):
    with bursar.run("mine", bursar.Budget(usd="1")):
        ask(gpt, 3)

@pytest.mark.budget("0.05")
def test_wrong_mark(gpt):
    pass

def test_without_a_mark(gpt):
    ask(gpt)

def test_without_a_call():
    pass
"""


def test_marked_tests_are_limited(pytester: pytest.Pytester, ledger: Path) -> None:
    """Also where they catch the stop, and where they open runs of their own; the others run as always."""
    pytester.makepyfile(TESTS)
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error")
    done.assert_outcomes(passed=3, failed=4)
    done.stdout.fnmatch_lines_random(
        [
            "*BudgetExceeded*",
            "*the test's budget refused 1 calls, and the test went on: pytest*",
            '*budget takes names: @pytest.mark.budget(usd="0.05")*',
            "*spent on models*",
            "$0.00*  *::test_fits",
            "$*in 4 tests",
        ]
    )
    with Reader(ledger) as reader:
        spent = {row.key.rpartition("::")[2]: row for row in reader.spend_by("feature")}
    # Two of $0.0010 and the bound of a third do not fit into $0.0025.
    assert spent["test_does_not_fit"].requests == 2
    assert spent["test_fits"].requests == 3
    assert f"${spent['test_fits'].nusd / 10**9:f}"[:7] in done.stdout.str()
    assert spent["test_catches_the_stop"].requests == 1


def test_all_tests_are_measured_where_that_is_asked_for(pytester: pytest.Pytester) -> None:
    """Without a limit, across processes; a test without a call is no warning."""
    pytester.makepyfile(TESTS)
    done = pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "-W", "error", "--bursar-spend", "-k", "without", "-n", "1"
    )
    done.assert_outcomes(passed=2)
    done.stdout.fnmatch_lines(["$0.00*::test_without_a_mark", "$0*::test_without_a_call", "$0.00* in 2 tests"])


def test_the_plugin_loads_nothing(tmp_path: Path) -> None:
    """pytest starts as quickly as without it: no SDK, no prices, no SQLite before a test needs them."""
    code = (
        "import sys, pytest\nbefore = set(sys.modules)\nimport bursar.pytest_plugin\n"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('_')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['bursar', 'bursar.pytest_plugin']"
