"""A context that the provider sums up within a call: what that costs is held, and charged where nobody saw its count."""

from __future__ import annotations

import itertools
from typing import Any

import anthropic
import openai
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


HI: Any = {"role": "user", "content": "hi"}
COMPACTED: Any = [{"type": "compaction", "compact_threshold": 50_000}]


def responded(reply: Reply, text: str, *, take: int | None = None, **more: Any) -> tuple[CallRow, int]:
    """As `asked`, of OpenAI's Responses."""
    said: Any = {"model": "gpt-4o", "max_output_tokens": 400, "input": text} | more
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
            with bursar.run("compaction", Budget(usd="1")) as run:
                try:
                    answer: Any = bursar.wrap(bare).responses.create(**said, stream=take is not None)
                    if take is not None:
                        assert list(itertools.islice(answer, take))
                        answer.close()
                except (openai.APIError, HTTP.HTTPError):
                    pass
            provider.wait_idle()
        (row,) = rows_of(run)
        return row, provider.billed_nusd


@pytest.mark.parametrize(
    ("ending", "take"),
    [({}, 5), ({"fault": "reset_after_billing"}, None), ({"fault": "drop_mid_stream"}, 50)],
    ids=["left", "lost", "cut"],
)
def test_a_compaction_of_openai_that_nobody_counted_is_charged(ending: Any, take: int | None) -> None:
    """Only its end would have said that the context was compacted: what is held covers it, and is charged."""
    summary = Iteration("compaction", 58_000, 300)
    reply = Reply(output_tokens=100, chunk_delay_s=0.001, extras=Extras(iterations=(summary,)), **ending)
    row, billed = responded(reply, LONG, take=take, context_management=COMPACTED)
    assert (row.nusd or 0) >= billed > 0
    assert row.usage_source != "provider"


@pytest.mark.parametrize("take", [None, 10_000], ids=["whole", "stream"])
def test_a_compaction_of_openai_is_flagged(take: int | None) -> None:
    """Its usage is charged; whether that counts the compaction nobody says, so it is the least that it cost."""
    reply = Reply(output_tokens=100, extras=Extras(iterations=(Iteration("compaction", 58_000, 300),)))
    plain, _ = responded(Reply(output_tokens=100), LONG)
    row, billed = responded(reply, LONG, take=take, context_management=COMPACTED)
    assert (row.flags, row.cost_status, row.usage_source) == (("compaction_unclear",), "lower_bound", "provider")
    assert row.nusd == plain.nusd
    assert plain.flags == ()
    assert (row.held_nusd or 0) >= billed > (row.nusd or 0)


@pytest.mark.parametrize(
    ("more", "twice"),
    [
        ({"context_management": COMPACTED}, False),
        ({"context_management": [{"type": "compaction", "compact_threshold": 300}]}, True),
        ({"context_management": [{"type": "compaction"}]}, True),
        ({"context_management": [*COMPACTED, 7]}, True),
        ({"context_management": []}, False),
        ({"context_management": 7}, False),
        ({"input": [HI, {"type": "compaction_trigger"}]}, True),
        ({"input": [{"type": "compaction_trigger"}, HI]}, False),
    ],
    ids=str,
)
def test_what_openai_cannot_compact_is_held_as_ever(more: Any, twice: bool) -> None:
    """The context grows by what is written, up to the cap: below the threshold nothing is held for a compaction."""
    row, _ = responded(Reply(output_tokens=20), "hi", **more)
    # A trigger that is not the last item triggers nothing.
    same: Any = {"input": [{"type": "compaction_trigger"}, HI]} if "input" in more else {}
    plain, _ = responded(Reply(output_tokens=20), "hi", **same)
    output = 400 * 10_000
    assert (row.held_nusd or 0) - output == (1 + twice) * ((plain.held_nusd or 0) - output)


def test_a_compaction_that_is_sent_back_is_as_long_as_what_it_stands_for() -> None:
    """Not as the letters that hide it: what is sealed is estimated as sealed thinking is."""
    item = {"type": "compaction", "id": "c", "encrypted_content": "x" * 60_000}
    row, _ = responded(Reply(output_tokens=20), "", input=[item, HI])
    plain, _ = responded(Reply(output_tokens=20), "", input=[HI])
    assert 0 < (row.held_nusd or 0) - (plain.held_nusd or 0) <= 60_000 * 2_500
