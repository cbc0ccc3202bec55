"""What cannot be metered call by call is named once, and refused by a strict client."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

import bursar
from bursar import Budget, BursarWarning, ConfigError
from bursar.clients import unmetered

if TYPE_CHECKING:
    from bursar.testing import Provider

OPENAI: Any = {
    "images": lambda c: c.images.generate(prompt="a river"),
    "audio": lambda c: c.audio.speech.create(input="x", model="tts-1", voice="alloy"),
    "files": lambda c: c.files.create(file=b"x", purpose="batch"),
    "fine_tuning": lambda c: c.fine_tuning.jobs.create(model="gpt-4o", training_file="f"),
    "batches": lambda c: c.batches.create(input_file_id="f", endpoint="/v1/responses", completion_window="24h"),
    "background responses": lambda c: c.responses.create(model="gpt-4o", input="x", background=True),
    "realtime websockets": lambda c: c.realtime.connect(model="gpt-realtime"),
    "background responses by extra_body": lambda c: c.responses.create(
        model="gpt-4o", input="x", extra_body={"background": True}
    ),
    "realtime": lambda c: c.realtime.client_secrets.create(),
    "anything else": lambda c: c.post("/divinations", body={}, cast_to=object),
}
ANTHROPIC: Any = {"batches": lambda c: c.messages.batches.create(requests=[])}
KINDS = [(sdk, kind) for sdk, table in (("openai", OPENAI), ("anthropic", ANTHROPIC)) for kind in table]


@pytest.fixture(autouse=True)
def said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has warned of nothing yet."""
    monkeypatch.setattr(unmetered, "_said", set())


def attempt(sdk: str, kind: str, gpt: openai.OpenAI, claude: anthropic.Anthropic, **options: Any) -> None:
    if sdk == "openai":
        OPENAI[kind](bursar.wrap(gpt, **options).with_options(timeout=5))
    else:
        ANTHROPIC[kind](bursar.wrap(claude, **options).with_options(timeout=5))


def named(kind: str) -> str:
    """What the warning calls it."""
    return "divinations" if kind == "anything else" else kind.removesuffix(" by extra_body")


@pytest.mark.parametrize(("sdk", "kind"), KINDS)
def test_a_strict_client_refuses_before_anything_is_sent(
    sdk: str, kind: str, provider: Provider, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    """`strict=True` raises ConfigError that names the kind, and the provider hears nothing; copies stay strict."""
    name = named(kind)
    with pytest.raises(ConfigError, match=f"refuses {name},"):
        attempt(sdk, kind, gpt, claude, strict=True)
    assert provider.requests == []


@pytest.mark.parametrize(("sdk", "kind"), KINDS)
def test_any_other_client_is_warned_once_for_each_kind(
    sdk: str, kind: str, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    """The first call of a kind warns and names it, the second does not; what the provider says is the caller's."""
    name = named(kind)
    with pytest.warns(BursarWarning, match=f"^{name} cannot be metered"):
        _quietly(lambda: attempt(sdk, kind, gpt, claude))
    with warnings.catch_warnings():
        warnings.simplefilter("error", BursarWarning)
        _quietly(lambda: attempt(sdk, kind, gpt, claude))


def _quietly(call: Any) -> None:
    try:
        call()
    except (openai.APIStatusError, anthropic.APIStatusError):
        return


def test_what_is_metered_or_free_passes_a_strict_client(
    provider: Provider, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    """strict refuses nothing that is limited and recorded, and nothing that costs nothing."""
    with bursar.run("strict", Budget(usd="1")) as run:
        client, other = bursar.wrap(gpt, strict=True), bursar.wrap(claude, strict=True)
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])
        client.responses.input_tokens.count(model="gpt-4o", input="hi")
        other.messages.count_tokens(model="claude-sonnet-5-5", messages=[{"role": "user", "content": "hi"}])
    assert run.spend.settled.nusd == provider.billed_nusd


def test_wrapping_again_stays_strict(provider: Provider, gpt: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    """A second wrap without strict loosens nothing."""
    with pytest.raises(ConfigError):
        bursar.wrap(bursar.wrap(gpt, strict=True)).images.generate(prompt="x")
    with pytest.raises(ConfigError):
        bursar.wrap(bursar.wrap(claude, strict=True)).messages.batches.create(requests=[])
    assert provider.requests == []
