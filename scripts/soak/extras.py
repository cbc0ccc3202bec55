"""More endpoints: the SDKs' own helpers, deadlines, notices, limits that count, what an answer has cost.

Each fails, which the soak counts as a fault, where bursar tells a caller something that is not so.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

import anthropic

import bursar
from bursar import Budget
from scripts.soak import tenants
from scripts.soak.calls import FAILURES, PROMPT
from scripts.soak.runs import agent, calls, dice, several, small
from scripts.soak.service import app

if TYPE_CHECKING:
    from scripts.soak.marks import Mark

_CLAUDE: Final = {"model": "claude-haiku-5-5", "max_tokens": 400}


@anthropic.beta_tool
def find_order(order: int) -> str:
    """Say where an order is.

    Args:
        order: its number.
    """
    return f"order {order} is on its way"


def helpers(user: str) -> None:
    """Streams by their helpers, beta messages, and the tool runner."""
    claude, gpt = calls.clients["messages"], calls.clients["openai"]
    with agent("helpers", user, limit=small()) as (_, mark):
        for work in (_said_by_claude, _said_by_gpt, _run_tools):
            # The SDKs' own words for a stream that was cut before its end, and for an answer without usage.
            with contextlib.suppress(*FAILURES, RuntimeError, AttributeError):
                work(claude, gpt, mark)


def _said_by_claude(claude: Any, _: Any, mark: Mark) -> None:
    with claude.messages.stream(**_CLAUDE, messages=_said(mark)) as events:
        events.get_final_message()
    claude.beta.messages.create(**_CLAUDE, messages=_said(mark))


def _said_by_gpt(_: Any, gpt: Any, mark: Mark) -> None:
    with gpt.chat.completions.stream(model="gpt-4o", max_completion_tokens=400, messages=_said(mark)) as events:
        events.get_final_completion()
    with gpt.responses.stream(model="gpt-4o", max_output_tokens=400, input=_said(mark)) as events:
        events.get_final_response()


def _run_tools(claude: Any, _: Any, mark: Mark) -> None:
    for _answer in claude.beta.messages.tool_runner(**_CLAUDE, messages=_said(mark), tools=[find_order]):
        continue


def deadline(user: str) -> None:
    """Calls until the time is over; none begins later."""
    with agent("deadline", user, Budget(seconds=1)) as (_, mark):
        began_s = time.monotonic()
        while True:
            late = time.monotonic() - began_s > 1.5
            with contextlib.suppress(*FAILURES):
                calls.call(mark, "plain")
                if late:
                    raise AssertionError("a call began half a second after the deadline")


def noticed(user: str) -> None:
    """A word when half is spent, once."""
    heard: list[Any] = []
    limit = Budget(usd="0.02", warn_at="50%", on_warn=heard.append)
    try:
        with agent("noticed", user, limit=limit) as (_, mark):
            several(mark, 8)
    finally:
        if len(heard) > 1 or any(each.settled < each.warn_at for each in heard):
            raise AssertionError(f"notices: {heard}")


def counted(user: str) -> None:
    """Limits of calls and tokens: no sixth call is served."""
    served = 0
    with agent("counted", user, Budget(model_calls=5, output_tokens=4_000, uncached_tokens=20_000)) as (_, mark):
        for _call in range(8):
            with contextlib.suppress(*FAILURES):
                calls.call(mark, "plain")
                served += 1
                if served > 5:
                    raise AssertionError(f"{served} calls were served of 5")


def costed(user: str) -> None:
    """What each answer has cost, as its caller sees it: together no more than the run's spend."""
    with agent("costed", user, limit=Budget(usd="0.20")) as (run, mark):
        told = 0
        for _ in range(4):
            with contextlib.suppress(*FAILURES):
                answer: Any = calls.clients["messages"].messages.create(**_CLAUDE, messages=_said(mark))
                told += bursar.cost(answer).nusd or 0
        if told > run.spend.settled.nusd:
            raise AssertionError(f"answers cost {told}, the run has spent {run.spend.settled.nusd}")


def _said(mark: Mark) -> Any:
    return [{"role": "user", "content": f"{mark} {dice.random()} {PROMPT * dice.randint(1, 20)}"}]


for _feature in (helpers, deadline, noticed, counted, costed):
    app.add_api_route(f"/{_feature.__name__}", _feature, methods=["POST"])
for _n in range(6):
    app.add_api_route(f"/tenants{_n}", tenants.endpoint, methods=["POST"], name=f"tenants{_n}")
