"""LangChain that is imported inside of a run which is open already: it is hooked, or the run says that it was not."""

from __future__ import annotations

import subprocess
import sys

OPENED = """
import sys, warnings, bursar
from bursar.testing import Provider
from langchain_core import __version__  # the package alone calls nothing back
assert "langchain_core.callbacks.manager" not in sys.modules
before = list(sys.meta_path)
with Provider(latency_s=0.0) as provider, warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    with bursar.run("x", bursar.Budget(model_calls=2)) as run:
        {first}
        from langchain_anthropic import ChatAnthropic
        model = ChatAnthropic(base_url=provider.anthropic_url, api_key="x", model="claude-sonnet-5-5", max_retries=0)
        model.invoke("hi")
        try:
            {then}
        except bursar.BudgetExceeded as stop:
            print("stopped", stop.why, len(provider.charges))
    print(run.stop_reason, run.spend.settled.model_calls, run.spend.settled.nusd == provider.billed_nusd)
    print(sys.meta_path == before, any("was imported after run" in str(each.message) for each in said))
from langchain_core.tracers import context
print(type(context.__loader__).__module__.startswith("bursar"), context.__spec__.loader is context.__loader__)
"""


def said(first: str, then: str) -> list[str]:
    code = OPENED.format(first=first, then=then)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_langchain_that_comes_late_is_gated_from_its_first_call() -> None:
    """Charged as billed and stopped by the limit; nothing of ours is left in the way of imports or in its module."""
    found = said("pass", "model.invoke('hi'); model.invoke('ho')")
    assert found == ["stopped no_room 2", "budget 2 True", "True False", "False True"]


def test_a_stop_passes_a_retry_that_comes_late() -> None:
    """`.with_retry()` lets a stop go at once there too."""
    found = said("pass", "model.invoke('hi'); model.with_retry(stop_after_attempt=9).invoke('ho')")
    assert found == ["stopped no_room 2", "budget 2 True", "True False", "False True"]


def test_langchain_that_passes_the_finder_by_is_said_loudly() -> None:
    """Where something else has taken our finder away the run warns at its end, and is recorded as unhooked."""
    found = said("sys.meta_path[:] = before", "model.invoke('hi')")
    assert found == ["unhooked 0 False", "True True", "False True"]


def test_the_hook_is_there_before_the_settings() -> None:
    """Importing it opens no ledger: `bursar.configure` may come later."""
    code = "import bursar.callbacks.hook, bursar.runs.process as made; assert made._process is None"
    subprocess.run([sys.executable, "-c", code], check=True)
