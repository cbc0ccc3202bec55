"""Whatever is asked: a named error or a flagged record, never a crash of ours in the caller's call, never a free call."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

import bursar
from bursar import Budget
from bursar.clients.requests import read
from bursar.pricing.data import PACKAGED_ON
from bursar.testing import Provider
from bursar.words.clock import SystemClock
from tests.clients.books import rows_of, verdicts_of


@pytest.fixture
def gpt(provider: Provider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as client:
        yield bursar.wrap(client)


@pytest.fixture
def claude(provider: Provider) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="x", max_retries=0) as client:
        yield bursar.wrap(client)


PROMPTS = {
    "ten megabytes": "a sentence of some length, and another one. " * 240_000,
    "a million spaces": " " * 1_000_000 + "x",
    "one long word": "a" * 1_000_000,
    "nul": "a\0b",
    "controls": "\x1b[2J\r\n\t\x07",
    "special tokens": "<|endoftext|><|im_start|>",
    "bidi and tags": "\u202e\u2066\U000e0041",
    "emoji": "👩‍👩‍👧" * 1_000,
    "empty": "",
}


@pytest.mark.parametrize("prompt", list(PROMPTS.values()), ids=list(PROMPTS))
def test_any_text_can_be_asked(
    gpt: openai.OpenAI, claude: anthropic.Anthropic, provider: Provider, prompt: str
) -> None:
    """Long, empty and hostile prompts are bounded, sent, and charged what the provider bills."""
    with bursar.run("inputs", Budget(usd="500")) as run:
        gpt.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": prompt}])
        claude.messages.create(
            model="claude-sonnet-5-5", max_tokens=300, messages=[{"role": "user", "content": prompt}]
        )
    assert run.spend.settled.nusd == provider.billed_nusd
    for row in rows_of(run):
        assert (row.held_nusd or 0) >= (row.nusd or 0)


def test_a_prompt_that_is_too_long_for_its_budget_is_refused(gpt: openai.OpenAI, provider: Provider) -> None:
    """Ten megabytes under a dollar: refused before they are sent."""
    with bursar.run("inputs", Budget(usd="1")), pytest.raises(bursar.BudgetExceeded):
        gpt.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": PROMPTS["ten megabytes"]}])
    assert provider.charges == []


class Odd:
    """Everything that code could call on it fails."""

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    __hash__ = None  # type: ignore[assignment]


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


class Said(BaseModel):
    role: str = "user"
    content: str = "hi"


BODIES: dict[str, Any] = {
    "no body": None,
    "a list": [],
    "no messages": {"model": "gpt-4o"},
    "messages are a text": {"model": "gpt-4o", "messages": "hi"},
    "no roles": {"model": "gpt-4o", "messages": [{"content": "x"}, 7, None]},
    "a model that is none": {"model": 7, "messages": []},
    "an odd object": {"model": "gpt-4o", "messages": [{"role": "user", "content": Odd()}]},
    "deep nesting": {"model": "gpt-4o", "messages": [{"role": "user", "content": deep(500)}]},
    "a lone surrogate": {"model": "gpt-4o", "messages": [{"role": "user", "content": "\ud800"}]},
    "a pydantic message": {"model": "gpt-4o", "messages": [Said()]},
    "NaN in a schema": {"model": "gpt-4o", "messages": [], "tools": [{"x": float("nan")}]},
    "bytes and sets": {"model": "gpt-4o", "messages": [{"role": "user", "content": [b"x", {1, 2}]}]},
    "caps that are none": {
        "model": "gpt-4o",
        "messages": [],
        "max_tokens": "many",
        "max_completion_tokens": -1,
        "n": True,
    },
    "an image": {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
    },
    "keys that are no text": {"model": "gpt-4o", "messages": [{"role": "user", "content": [{1: 2}]}]},
}


@pytest.mark.parametrize("body", list(BODIES.values()), ids=list(BODIES))
@pytest.mark.parametrize("api", ["messages", "chat", "responses"])
def test_any_body_can_be_measured(api: str, body: Any) -> None:
    """What an SDK may be handed is measured without an error and never as nothing at all where something is there."""
    request = read(api, body, "host")
    assert request.transcript.utf8_bytes >= 0
    assert all(tokens >= 0 for tokens in request.transcript.tokens)
    assert request.cap is None or request.cap > 0
    assert request.choices == 1


def test_what_bytes_do_not_bound_is_marked() -> None:
    """Images and conversations stored at the provider are estimated, and the request says so."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 10_000}}
    request = read("messages", {"model": "m", "messages": [{"role": "user", "content": [image]}]}, None)
    assert request.transcript.unbounded
    assert read("responses", {"model": "m", "input": "x", "previous_response_id": "r"}, None).transcript.unbounded


@pytest.mark.parametrize("model", ["gpt-9-nobody", "gpt-4o\n", "\x1b[31mgpt-4o", "x" * 10_000, "gpt-4o-", "gpt"])
def test_an_unknown_price_is_never_zero(gpt: openai.OpenAI, provider: Provider, model: str) -> None:
    """Under a limit in dollars an unpriced model is refused; under another limit its cost is unknown, not 0."""
    asked: Any = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    with bursar.run("inputs", Budget(usd="1")) as run, pytest.raises(bursar.PriceUnknown) as refused:
        gpt.chat.completions.create(**asked)
    assert provider.requests == []
    assert refused.value.model == model
    assert "\n" not in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert verdicts_of(run)[0].reason == "price_unknown"
    with bursar.run("inputs", Budget(tokens=1_000_000)) as run, pytest.raises(openai.NotFoundError):
        gpt.chat.completions.create(**asked)
    assert len(rows_of(run)) == 1


def test_prices_that_are_too_old_refuse_where_that_is_set(
    gpt: openai.OpenAI, provider: Provider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From that day on a limit in dollars refuses list prices, and shares of them; rates that were set still hold."""
    (tmp_path / "bursar.toml").write_text(
        '[bursar]\nmax_price_age = "30d"\n[[price]]\nmodel = "gpt-4o"\ninput = "3"\noutput = "12"\n'
        '[[price]]\nmodel = "o3"\ndiscount = "10 %"\n'
    )
    bursar.configure(config=tmp_path / "bursar.toml")
    said: Any = [{"role": "user", "content": "hi"}]
    day = PACKAGED_ON + timedelta(days=30)
    monkeypatch.setattr(SystemClock, "today", lambda _: day)

    def ask(model: str, **limits: Any) -> None:
        with bursar.run("inputs", Budget(**limits)):
            gpt.chat.completions.create(model=model, messages=said)

    for model in ("gpt-4o", "gpt-4o-mini", "o3"):
        ask(model, usd="1")
    day += timedelta(days=1)
    for model in ("gpt-4o-mini", "o3"):
        with pytest.raises(bursar.PriceUnknown, match=r"older than max_price_age allows.*bursar prices update"):
            ask(model, usd="1")
    assert len(provider.requests) == 3
    ask("gpt-4o", usd="1")
    ask("gpt-4o-mini", tokens=100_000)
    assert len(provider.requests) == 5


def test_an_unpriced_answer_is_recorded_as_such() -> None:
    """A model that only this provider knows: its call counts in tokens, and its cost is NULL in the ledger."""
    from bursar.testing import ModelPrice, rates

    own = {"house-model": ModelPrice("openai", rates("1", "2"))}
    with (
        Provider(latency_s=0.0, models=own) as provider,
        openai.OpenAI(base_url=provider.openai_url, api_key="x") as bare,
    ):
        client = bursar.wrap(bare)
        with bursar.run("inputs", Budget(tokens=10_000)) as run:
            client.chat.completions.create(model="house-model", messages=[{"role": "user", "content": "hi"}])
    (row,) = rows_of(run)
    assert (row.nusd, row.cost_status) == (None, "unknown")
    assert run.unpriced == 1
    assert "1 unpriced" in run.summary()
    assert run.spend.settled.tokens > 200


def test_names_in_tags_are_kept_harmless(gpt: openai.OpenAI) -> None:
    """SQL, markup, control characters and very long text in tags change nothing but the text."""
    nasty = "x'); DROP TABLE run;-- [red]\x1b[31m\0 \ud800" + "y" * 500
    tags: dict[str, Any] = {"a'b": nasty}
    with bursar.run(nasty, Budget(usd="1"), user=nasty, session=nasty, **tags) as run:
        gpt.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
    assert len(rows_of(run)) == 1
