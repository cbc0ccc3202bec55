"""What a framework tells out of order: an end without a beginning, an end twice, a beginning twice."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult

import bursar
from bursar import Budget
from bursar.callbacks import BursarCallbackHandler
from bursar.callbacks.calls import calls
from bursar.callbacks.roots import roots
from bursar.words.events import NOTHING
from tests.clients.books import rows_of

ASKED: dict[str, Any] = {"invocation_params": {"_type": "anthropic-chat", "model": "claude-haiku-5-5", "max_tokens": 100},
                         "metadata": {"ls_provider": "anthropic", "ls_model_name": "claude-haiku-5-5"}}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_left() -> Any:
    """No call and no part of an invocation is kept after a test."""
    yield
    assert calls == {}
    assert roots == {}


def begin(handler: BursarCallbackHandler, run_id: uuid.UUID) -> None:
    handler.on_chat_model_start({}, [[HumanMessage("hi")]], run_id=run_id, **ASKED)


def answer(tokens: int = 10) -> LLMResult:
    usage: Any = {"input_tokens": 20, "output_tokens": tokens, "total_tokens": 20 + tokens}
    return LLMResult(generations=[[ChatGeneration(message=AIMessage("x", usage_metadata=usage))]])


def test_an_end_without_a_beginning_charges_nobody() -> None:
    """Of calls, chains and tools: nobody falls over, no row and no charge is made of it, and the run says so."""
    handler = BursarCallbackHandler()
    with pytest.warns(bursar.BursarWarning, match="saw no model call"), bursar.run("x", Budget(usd="1")) as run:
        bare = uuid.uuid4()
        handler.on_llm_end(answer(), run_id=bare)
        handler.on_llm_error(ValueError("x"), run_id=bare)
        handler.on_llm_new_token("x", run_id=bare)
        handler.on_chain_end({}, run_id=bare)
        handler.on_chain_error(ValueError("x"), run_id=bare)
        handler.on_tool_end("x", run_id=bare)
        handler.on_tool_error(ValueError("x"), run_id=bare)
    assert run.spend.settled == NOTHING
    assert rows_of(run) == []


@pytest.mark.parametrize("second", ["end", "error"])
def test_an_end_that_is_told_twice_counts_once(second: str) -> None:
    """The first end is the call's: another answer, or an error after it, changes no charge."""
    handler = BursarCallbackHandler()
    with bursar.run("x", Budget(usd="1")) as run:
        call = uuid.uuid4()
        begin(handler, call)
        handler.on_llm_end(answer(10), run_id=call)
        spent = run.spend.settled
        if second == "end":
            handler.on_llm_end(answer(90), run_id=call)
        else:
            handler.on_llm_error(ValueError("x"), run_id=call)
        assert run.spend.settled == spent
    assert (spent.model_calls, spent.output_tokens) == (1, 10)
    assert [row.status for row in rows_of(run)] == ["ok"]


def test_a_beginning_that_is_told_twice_holds_once() -> None:
    """The same run id begun again is the same call: one hold, one row, one charge."""
    handler = BursarCallbackHandler()
    with bursar.run("x", Budget(usd="1")) as run:
        call = uuid.uuid4()
        begin(handler, call)
        held = run.spend.held
        begin(handler, call)
        assert run.spend.held == held
        assert held.model_calls == 1
        handler.on_llm_end(answer(), run_id=call)
    assert run.spend.held == NOTHING
    assert run.spend.settled.model_calls == 1
    assert len(rows_of(run)) == 1
