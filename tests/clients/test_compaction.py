"""A context that the provider sums up within a call: what that costs is held, and charged where nobody saw its count."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

import bursar
from bursar import Budget
from bursar.testing import Extras, Iteration, Provider, Reply
from bursar.words.rows import CallRow
from tests.clients.books import rows_of
from tests.clients.http import HTTP

LONG = "Where is the order of customer 17? Answer in one paragraph. " * 4_500
SUMMED: Any = {"edits": [{"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 50_000}}]}


def asked(reply: Reply, text: str, *, take: int | None = None, **more: Any) -> tuple[CallRow, int]:
    """The row of one call, left after some events where `take` says so, and its bill."""
    said: Any = {"model": "claude-haiku-5-5", "max_tokens": 400, "messages": [{"role": "user", "content": text}]}
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as bare:
            with bursar.run("compaction", Budget(usd="1")) as run:
                try:
                    answer: Any = bursar.wrap(bare).beta.messages.create(**said, **more, stream=take is not None)
                    if take is not None:
                        for _ in range(take):
                            next(answer)
                        answer.close()
                except (anthropic.APIError, HTTP.HTTPError):
                    pass
            provider.wait_idle()
        (row,) = rows_of(run)
        return row, provider.billed_nusd


@pytest.mark.parametrize(
    ("ending", "take"),
    [({}, 5), ({"fault": "reset_after_billing"}, None), ({"fault": "drop_mid_stream"}, 50), ({}, None)],
    ids=["left", "lost", "cut", "whole"],
)
def test_a_summary_that_nobody_counted_is_charged(ending: Any, take: int | None) -> None:
    """However the call ends, and although only its end would have said that there was a summary."""
    summary = Iteration("compaction", 60_000, 3_500)
    reply = Reply(output_tokens=200, chunk_delay_s=0.001, extras=Extras(iterations=(summary,)), **ending)
    row, billed = asked(reply, LONG, take=take, context_management=SUMMED)
    assert (row.nusd or 0) >= billed > 0
    assert (row.held_nusd or 0) >= billed
    assert (row.nusd == billed) == (row.usage_source == "provider")


@pytest.mark.parametrize(
    "edits",
    [
        SUMMED,
        {"edits": [{"type": "clear_tool_uses_20250919"}]},
        {"edits": [{"type": "compact_20260112"}, 7, None]},
        {"edits": [{"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": "many"}}]},
        {"edits": 7},
        [],
    ],
    ids=str,
)
def test_what_is_too_short_to_be_summed_up_is_held_as_ever(edits: Any) -> None:
    """The vendor sums up from 50,000 tokens on at the earliest: below it nothing is held for it."""
    reply = Reply(output_tokens=20)
    plain, _ = asked(reply, "hi")
    row, _ = asked(reply, "hi", context_management=edits)
    assert row.held_nusd == plain.held_nusd


def test_a_summary_on_demand_is_held_for_whatever_its_length() -> None:
    """It is made because the request says so; the input is held twice."""
    reply = Reply(output_tokens=20)
    plain, _ = asked(reply, "hi")
    row, _ = asked(reply, "hi", extra_body={"compaction": {"type": "enabled"}})
    output = 400 * 500
    assert (row.held_nusd or 0) - output == 2 * ((plain.held_nusd or 0) - output)
