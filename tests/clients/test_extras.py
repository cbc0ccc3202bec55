"""What is billed besides plain tokens: the ledger's row is the provider's bill, plain and streamed, in both SDKs."""

from __future__ import annotations

import contextlib
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from typer.testing import CliRunner

import bursar
from bursar import Budget
from bursar.cli.app import app
from bursar.clients.requests import read
from bursar.clients.sellers import region_of, seller_of
from bursar.clients.usage import anthropic_usage
from bursar.testing import Extras, Iteration, Provider, Reply
from bursar.words.events import Usage
from bursar.words.rows import CallRow
from tests.clients.books import rows_of

COMPACTION = Iteration("compaction", 150_000, 4_000)
ADVISOR = Iteration("advisor_message", 9_000, 700, model="claude-opus-5-5", cache_read=2_000, cache_write_5m=3_000)
CLAUDE = {
    "searches": Extras(web_searches=3, web_fetches=2),
    "US": Extras(inference_geo="us"),
    "US and searches": Extras(inference_geo="us", web_searches=1),
    "compaction": Extras(iterations=(COMPACTION,)),
    "advisor": Extras(iterations=(ADVISOR,)),
    "all": Extras(web_searches=2, inference_geo="us", iterations=(COMPACTION, ADVISOR)),
    "fast": Extras(speed="fast", inference_geo="us"),
}
GPT = {
    "12-hour writes": ("gpt-6.1-terra", Extras(cache_write_12h=900, cache_write_30m=100), "upper_bound"),
    "30-minute writes": ("gpt-6.1-terra", Extras(cache_write_30m=1_000), "list_price"),
    "searches": ("gpt-5", Extras(web_searches=2, web_fetches=3), "list_price"),
}


def claude(
    extras: Extras, *, stream: bool, beta: bool = True, free_nusd: int = 0, **options: Any
) -> tuple[CallRow, int]:
    """The row of one call to Claude, and its bill; `free_nusd` of what was charged is on none."""
    asked: dict[str, Any] = {"max_tokens": 400, "messages": [{"role": "user", "content": "hi"}], **options}
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=90, extras=extras)) as provider:
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as bare:
            client = bursar.wrap(bare)
            messages: Any = client.beta.messages if beta else client.messages
            with bursar.run("extras", Budget(usd="5")) as run:
                answer = messages.create(**asked, stream=stream)
                if stream:
                    list(answer)
        assert run.spend.settled.nusd == provider.billed_nusd + free_nusd
    (row,) = rows_of(run)
    return row, provider.billed_nusd


def gpt(model: str, extras: Extras, *, stream: bool, api: str) -> tuple[CallRow, int]:
    """The row of one call to an OpenAI model, and its bill."""
    text = "Read this. " * 600
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=90, extras=extras)) as provider:
        with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as bare:
            client = bursar.wrap(bare)
            with bursar.run("extras", Budget(usd="5")) as run:
                answer: Any
                if api == "responses":
                    answer = client.responses.create(model=model, input=text, max_output_tokens=400, stream=stream)
                else:
                    chat: Any = client.chat.completions
                    answer = chat.create(
                        model=model, messages=[{"role": "user", "content": text}], max_completion_tokens=400, stream=stream
                    )  # fmt: skip
                if stream:
                    list(answer)
        assert run.spend.settled.nusd == provider.billed_nusd
    (row,) = rows_of(run)
    return row, provider.billed_nusd


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("name", CLAUDE)
def test_claude_s_bill_is_the_ledger_s(name: str, stream: bool) -> None:
    """Searches, places, fast mode, compaction and advisors: to the nano-dollar, at list price."""
    extras = CLAUDE[name]
    row, billed = claude(extras, stream=stream, model="claude-opus-5-5" if name == "fast" else "claude-sonnet-5-5")
    assert (row.nusd, row.cost_status) == (billed, "list_price")
    assert (row.web_searches, row.region) == (extras.web_searches, extras.inference_geo or "global")
    assert [side["kind"] for side in row.side_usage] == [entry.kind for entry in extras.iterations]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("wrote", [0, 40])
def test_a_fallback_s_bill_is_never_above_the_ledger_s(wrote: int, stream: bool) -> None:
    """Both models at their own prices; one that has declined without a word is free at the vendor alone."""
    asked, answers, free_nusd = "claude-sonnet-5-5", "claude-opus-5-5", 0 if wrote else 8 * 2_000
    extras = Extras(iterations=(Iteration("message", 8, wrote, model=asked),), served_by=answers)
    more: Any = {"model": asked, "fallbacks": [{"model": answers}]}
    row, billed = claude(extras, stream=stream, free_nusd=free_nusd, **more)
    assert (row.nusd, row.cost_status, row.response_model) == (billed + free_nusd, "upper_bound", answers)
    assert row.flags == ("declined_hop",)


@pytest.mark.parametrize("left", [False, True], ids=["dropped", "left"])
def test_searches_of_a_stream_that_was_cut_are_charged(left: bool) -> None:
    """How often it has searched is said at the very end: as often as it was allowed to."""
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    asked: Any = {"model": "claude-sonnet-5-5", "max_tokens": 400, "messages": [{"role": "user", "content": "hi"}]}
    reply = Reply(
        output_tokens=200, chunk_delay_s=0.01, extras=Extras(web_searches=2), fault=None if left else "drop_mid_stream"
    )
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as bare:
            messages: Any = bursar.wrap(bare).messages
            with (
                bursar.run("extras", Budget(usd="5")) as run,
                messages.create(**asked, tools=[search], stream=True) as stream,
                contextlib.suppress(anthropic.APIError, httpx2.HTTPError),
            ):
                for number, _ in enumerate(stream):
                    if left and number == 9:
                        break
            provider.wait_idle()
        (row,) = rows_of(run)
        assert (row.usage_source, row.web_searches, row.cost_status) == ("stream_partial", 2, "estimated")
        assert 20_000_000 < provider.billed_nusd <= run.spend.settled.nusd <= (row.held_nusd or 0)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_what_is_asked_for_is_held_for(stream: bool) -> None:
    """Fast mode in the US alone costs 2.2 times as much, and the hold has covered that."""
    row, billed = claude(Extras(), stream=stream, model="claude-opus-5-5", speed="fast", inference_geo="us")
    plain, _ = claude(Extras(), stream=stream, model="claude-opus-5-5")
    assert row.nusd == billed == (plain.nusd or 0) * 22 // 10
    assert row.held_nusd == (plain.held_nusd or 0) * 22 // 10
    assert "overrun" not in row.flags


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_fast_mode_that_was_not_served_is_not_billed(stream: bool) -> None:
    """Asked for as fast and made at standard speed: the standard price, as the provider bills it."""
    row, billed = claude(Extras(speed="standard"), stream=stream, model="claude-opus-5-5", speed="fast")
    assert (row.nusd, row.cost_status) == (billed, "list_price")


def test_the_summary_and_the_advisor_are_told_apart_from_the_answer() -> None:
    """The row has all tokens that were billed, and says which of them were not the answer's, and what they cost."""
    row, _ = claude(CLAUDE["all"], stream=False, model="claude-sonnet-5-5")
    compaction, advisor = row.side_usage
    # $2 and $10 a million, times 1.1.
    assert compaction["nusd"] == 150_000 * 2_200 + 4_000 * 11_000
    # $4 in, $20 out, $0.20 read, $5 written, times 1.1.
    assert advisor["nusd"] == 9_000 * 4_400 + 2_000 * 220 + 3_000 * 5_500 + 700 * 22_000
    assert (advisor["model"], advisor["input_tokens"]) == ("claude-opus-5-5", 14_000)
    plain, _ = claude(Extras(), stream=False, model="claude-sonnet-5-5")
    assert row.input_tokens == plain.input_tokens + 150_000 + 14_000
    assert row.output_tokens == 90 + 4_000 + 700


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("name", GPT)
def test_openai_s_bill_is_the_ledger_s(name: str, stream: bool) -> None:
    """Cache writes by their lifetime and searches, not pages looked into: to the nano-dollar."""
    model, extras, status = GPT[name]
    row, billed = gpt(model, extras, stream=stream, api="responses")
    assert (row.nusd, row.cost_status) == (billed, status)
    assert row.cache_write_tokens == extras.cache_write_12h + extras.cache_write_30m


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_audio_is_billed_at_its_own_rates(stream: bool) -> None:
    """What is heard and what is spoken cost more than text, and are told apart from it."""
    row, billed = gpt("gpt-audio", Extras(audio_input_tokens=500, audio_output_tokens=40), stream=stream, api="chat")
    assert (row.nusd, row.cost_status) == (billed, "list_price")
    assert (row.audio_input_tokens, row.audio_output_tokens) == (500, 40)


def test_a_receipt_says_the_same_as_the_bill() -> None:
    """`bursar.cost` of an answer that no wrapped client saw: iterations and place included."""
    with Provider(latency_s=0.0, replies=lambda _: Reply(output_tokens=90, extras=CLAUDE["all"])) as provider:
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as bare:
            answer = bare.beta.messages.create(
                model="claude-sonnet-5-5", max_tokens=400, messages=[{"role": "user", "content": "hi"}]
            )
        assert bursar.cost(answer).nusd == provider.billed_nusd


def turn(kind: str, into: int, out: int, **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "input_tokens": into,
        "output_tokens": out,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        **more,
    }


def totals(into: int, out: int, *entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"input_tokens": into, "output_tokens": out, "iterations": list(entries), **more}


def test_turns_are_never_counted_twice() -> None:
    """Turns of the model add up to the totals; a compaction does not, and neither does an advisor."""
    raw = totals(300, 30, turn("message", 100, 10), turn("compaction", 5_000, 50), turn("message", 200, 20))
    reading = anthropic_usage(raw)
    assert (reading.usage, reading.flags, reading.model) == (Usage(300, 30), (), None)
    assert [(side.kind, side.usage) for side in reading.side] == [("compaction", Usage(5_000, 50))]


@pytest.mark.parametrize(("into", "out"), [(100, 30), (400, 30)], ids=["entries say more", "totals say more"])
def test_where_totals_and_entries_differ_the_larger_is_charged(into: int, out: int) -> None:
    """Flagged, so that the price is an upper bound."""
    reading = anthropic_usage(totals(into, out, turn("message", 100, 10), turn("message", 200, 20)))
    assert reading.usage == Usage(max(into, 300), 30)
    assert reading.flags == ("iterations_unclear",)


@pytest.mark.parametrize("every", [True, False], ids=["totals of all", "totals of the last"])
def test_a_fallback_is_billed_as_the_model_that_answered(every: bool) -> None:
    """The declined turn at its own model beside it, whatever the totals count; vendors bill some of these, so flagged."""
    entries = (
        turn("message", 1_000, 1, model="claude-fable-5-2"),
        turn("fallback_message", 900, 40, model="claude-opus-5-5"),
    )
    reading = anthropic_usage(totals(1_900 if every else 900, 41 if every else 40, *entries))
    assert (reading.usage, reading.model) == (Usage(900, 40), "claude-opus-5-5")
    assert [(side.model, side.usage) for side in reading.side] == [("claude-fable-5-2", Usage(1_000, 1))]
    assert reading.flags == ("declined_hop",)


def test_a_credit_that_was_redeemed_is_an_upper_bound() -> None:
    """Writes may have been billed as reads: nobody says how many."""
    raw = {"input_tokens": 10, "output_tokens": 1, "fallback_credit": {"status": {"type": "redeemed"}}}
    assert anthropic_usage(raw).flags == ("fallback_credit",)
    raw["fallback_credit"] = {"status": {"type": "not_applied", "reason": "expired"}}
    assert anthropic_usage(raw).flags == ()


@pytest.mark.parametrize(
    "entry", [turn("message", -5, 1), turn("compaction", True, 1), turn("advisor_message", 10**30, 1)]
)
def test_an_entry_that_cannot_be_spoils_the_usage(entry: dict[str, Any]) -> None:
    """A negative count, a bool, a number beyond all sense: the whole is charged at its bound."""
    assert anthropic_usage(totals(10, 1, entry)).flags == ("invalid_usage",)


def test_an_entry_of_a_kind_that_nobody_knows_is_counted_and_flagged() -> None:
    """What a later version of the API adds is charged on top, never dropped."""
    reading = anthropic_usage(totals(10, 1, turn("message", 10, 1), turn("rehearsal", 500, 5)))
    assert [side.kind for side in reading.side] == ["rehearsal"]
    assert reading.flags == ("iterations_unclear",)


def test_a_fallback_is_charged_and_recorded_through_the_client() -> None:
    """The row has the price of both models, as an upper bound; nothing is called drift."""
    entries = [
        turn("message", 1_000, 1, model="claude-fable-5-2"),
        turn("fallback_message", 900, 40, model="claude-opus-5-5"),
    ]
    usage = totals(1_900, 41, *entries)
    reply = Reply(usage_override=usage, response_model="claude-opus-5-5")
    with Provider(latency_s=0.0, replies=lambda _: reply) as provider:
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as bare:
            with bursar.run("fallback", Budget(usd="5")) as run:
                bursar.wrap(bare).beta.messages.create(
                    model="claude-sonnet-5-5", max_tokens=400, messages=[{"role": "user", "content": "hi"}]
                )
    (row,) = rows_of(run)
    # $8 and $40 a million for the one that declined, $4 and $20 for the one that answered.
    assert row.nusd == 1_000 * 8_000 + 1 * 40_000 + 900 * 4_000 + 40 * 20_000
    assert row.cost_status == "upper_bound"
    assert "declined_hop" in row.flags
    assert "model_drift" not in row.flags


def test_an_advisor_without_a_price_is_never_free() -> None:
    """It is charged as if the call's own model had done it, and the cost is a lower bound."""
    usage = totals(10, 1, turn("message", 10, 1), turn("advisor_message", 1_000, 100, model="claude-nobody-9"))
    with Provider(latency_s=0.0, replies=lambda _: Reply(usage_override=usage)) as provider:
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as bare:
            with bursar.run("advisor", Budget(usd="5")) as run:
                bursar.wrap(bare).beta.messages.create(
                    model="claude-sonnet-5-5", max_tokens=400, messages=[{"role": "user", "content": "hi"}]
                )
    (row,) = rows_of(run)
    assert (row.nusd, row.cost_status) == (10 * 2_000 + 10_000 + 1_000 * 2_000 + 100 * 10_000, "lower_bound")
    assert row.side_usage[0]["model"] == "claude-nobody-9"


@pytest.mark.parametrize(
    ("host", "region"),
    [("eu.api.openai.com", "eu"), ("api.openai.com", None), ("eu.api.openai.com.evil.example", None)],
)
def test_openai_s_hosts_say_where(host: str, region: str | None) -> None:
    """Regional processing is chosen by the host; any other host says nothing."""
    for api in ("chat", "responses"):
        assert read(api, {"model": "gpt-6.1-terra", "messages": [], "input": ""}, host).region == region


def test_vertex_clients_say_where() -> None:
    """The place is the client's own; the vendor's client has none."""
    with anthropic.AnthropicVertex(region="us-east5", project_id="p", access_token="t") as vertex:
        assert region_of(vertex) == "us-east5"
        assert read("messages", {"model": "m"}, None, seller_of(vertex), region_of(vertex)).region == "us-east5"
    with anthropic.Anthropic(api_key="x") as bare:
        assert region_of(bare) is None


def test_a_trace_shows_what_was_beside_the_answer() -> None:
    """One line for each, below the attempt: what it was, its tokens and its price."""
    claude(CLAUDE["all"], stream=False, model="claude-sonnet-5-5")
    done = CliRunner().invoke(app, ["trace", "last"])
    assert "of it compaction · in 150,000 · out 4,000 · $0.374" in done.output
    assert "of it advisor_message claude-opus-5-5 · in 14,000 · out 700" in done.output
    assert "2 searches" in done.output
