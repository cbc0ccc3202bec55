"""How a stop travels through LangGraph: what it is, and what lets it pass."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langgraph.errors import GraphBubbleUp

import bursar
from bursar import Budget
from bursar.callbacks import BursarCallbackHandler
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


class _Broken(BaseCallbackHandler):
    """Somebody else's handler, with a fault."""

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError("mine")


@pytest.mark.parametrize("way", ["in a run", "handler", "awaited"])
def test_a_stop_is_no_error_in_the_log(provider: Provider, caplog: pytest.LogCaptureFixture, way: str) -> None:
    """LangChain warns of what handlers raise; of a stop, which goes to the caller, it does not. Of others it does."""
    model = claude(provider)
    own: Any = [BursarCallbackHandler("x", Budget(tokens=1))] if way == "handler" else []
    config: Any = {"callbacks": [_Broken(), *own]}
    with pytest.raises(bursar.BudgetExceeded):
        if way == "handler":
            model.invoke("hi", config)
        else:
            with bursar.run("x", Budget(tokens=1)):
                if way == "awaited":
                    asyncio.run(model.ainvoke("hi", config))
                else:
                    model.invoke("hi", config)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("langchain_core")]
    # Awaited, the stop is raised before others are called back.
    others = [] if way == "awaited" else ["Error in _Broken.on_chat_model_start callback: ValueError('mine')"]
    assert said == others
