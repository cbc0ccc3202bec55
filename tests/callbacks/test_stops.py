"""How a stop travels through LangGraph: what it is, and what lets it pass."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
from langgraph.errors import GraphBubbleUp

import bursar
from bursar import Budget
from bursar.testing import Provider
from tests.callbacks.models import claude


def refusal(provider: Provider) -> bursar.BudgetExceeded:
    with pytest.raises(bursar.BudgetExceeded) as caught, bursar.run("x", Budget(tokens=1)):
        bursar.wrap(claude(provider)).invoke("hi")
    return caught.value


def test_a_stop_is_one_that_langgraph_lets_pass(provider: Provider) -> None:
    """Where langgraph is loaded, the error of a wrapped client is a GraphBubbleUp too, under its own name."""
    error = refusal(provider)
    assert isinstance(error, GraphBubbleUp)
    assert type(error).__name__ == "BudgetExceeded"
    assert error.limit == 1
    assert error.run is not None


def test_a_stop_crosses_a_process_boundary(provider: Provider) -> None:
    """It is pickled as the plain class, with its numbers, and is a GraphBubbleUp again where langgraph is loaded."""
    error = refusal(provider)
    sent = pickle.dumps(error)
    back = pickle.loads(sent)
    assert type(back) is type(error)
    assert (back.args, back.limit, back.why) == (error.args, error.limit, error.why)
    code = "import pickle, sys; e = pickle.loads(sys.stdin.buffer.read()); print(type(e).__mro__, e.limit)"
    there = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True).stdout.decode()
    assert "GraphBubbleUp" not in there
    assert there.strip().endswith(" 1")
