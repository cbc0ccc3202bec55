"""Pictures, PDFs, recordings and tools under a tight budget: held before, billed by the provider's own rules after."""

from __future__ import annotations

import base64
import io
import sqlite3
import struct
import wave
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

import bursar
from bursar import Budget
from bursar.clients.requests import read
from bursar.pricing.estimate import Estimator
from bursar.runs.process import process
from bursar.words.events import Answer, Status, Usage
from bursar.words.money import usd
from tests.clients.books import rows_of

if TYPE_CHECKING:
    import anthropic
    import openai

    from bursar.testing import Provider

CAP = 200


def png(width: int, height: int) -> str:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x02\x00\x00\x00"
    return base64.b64encode(head + b"\x00" * 30_000).decode()


def jpeg(width: int, height: int) -> str:
    frame = b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03" + b"\x00" * 9
    return base64.b64encode(b"\xff\xd8\xff\xe0\x00\x04\x00\x00" + frame + b"\x00" * 30_000).decode()


def pdf(pages: int) -> str:
    body = b"".join(b"%d 0 obj << /Type /Page /Parent 1 0 R >> endobj\n" % number for number in range(2, pages + 2))
    return base64.b64encode(b"%%PDF-1.4\n1 0 obj << /Type /Pages /Count %d >> endobj\n" % pages + body).decode()


def wav(seconds: int) -> str:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 8_000, 0, "NONE", ""))
        sound.writeframes(b"\x00" * 2 * seconds * 8_000)
    return base64.b64encode(file.getvalue()).decode()


SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "The city to look at, by its English name."},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "How warm is said."},
        "days": {"type": "array", "items": {"type": "integer"}, "description": "Days from today on."},
    },
    "required": ["city"],
}
SAID = "Says what the weather will be, for the days that are asked for, and how sure that is."


def claude_source(kind: str, media_type: str, data: str) -> list[dict[str, Any]]:
    source = {"type": "base64", "media_type": media_type, "data": data}
    return [{"type": kind, "source": source}, {"type": "text", "text": "What is this?"}]


def gpt_part(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [part, {"type": "text", "text": "What is this?"}]


def url(media_type: str, data: str) -> str:
    return f"data:{media_type};base64,{data}"


CLAUDE: dict[str, dict[str, Any]] = {
    "small picture": {"content": claude_source("image", "image/png", png(320, 200))},
    "large picture": {"content": claude_source("image", "image/png", png(4_000, 3_000))},
    "panorama": {"content": claude_source("image", "image/jpeg", jpeg(7_000, 400))},
    "pdf": {"content": claude_source("document", "application/pdf", pdf(9))},
    "tools": {
        "content": "hi",
        "tools": [{"name": f"weather_{n}", "description": SAID, "input_schema": SCHEMA} for n in range(6)],
    },
    "a tool that must be used": {
        "content": "hi",
        "tools": [{"name": "weather", "description": SAID, "input_schema": SCHEMA}],
        "tool_choice": {"type": "any"},
    },
    "result with a picture": {
        "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": claude_source("image", "image/png", png(1_024, 768))}
        ]
    },
}
GPT: dict[str, dict[str, Any]] = {
    "picture": {"content": gpt_part({"type": "image_url", "image_url": {"url": url("image/png", png(1_600, 1_200))}})},
    "picture, low detail": {
        "content": gpt_part(
            {"type": "image_url", "image_url": {"url": url("image/png", png(1_600, 1_200)), "detail": "low"}}
        )
    },
    "panorama": {"content": gpt_part({"type": "image_url", "image_url": {"url": url("image/jpeg", jpeg(7_000, 400))}})},
    "pdf": {
        "content": gpt_part(
            {"type": "file", "file": {"filename": "a.pdf", "file_data": url("application/pdf", pdf(9))}}
        )
    },
    "recording": {"content": gpt_part({"type": "input_audio", "input_audio": {"data": wav(60), "format": "wav"}})},
    "tools": {
        "content": "hi",
        "tools": [
            {"type": "function", "function": {"name": f"weather_{n}", "description": SAID, "parameters": SCHEMA}}
            for n in range(6)
        ],
    },
}


def check(provider: Provider, send: Any, bound: int, near: float) -> None:
    """Send a request with room for the practical bound and a little more; the provider's bill is within what was held."""
    with bursar.run("attached", Budget(usd=usd(bound))) as run:
        send()
    (row,) = rows_of(run)
    (charge,) = provider.charges
    assert row.bound == "practical"
    assert charge.nusd <= (row.held_nusd or 0) <= bound
    with closing(sqlite3.connect(process().ledger.path)) as db:
        ((estimated,),) = db.execute("SELECT est_input_tokens FROM model_call").fetchall()
    assert abs(estimated - charge.input_tokens) <= near * charge.input_tokens


def practical(request: Any, input_nusd: int, output_nusd: int) -> int:
    demand = Estimator().estimate(request, "w", 0, None).demand
    return demand.input_practical * input_nusd + CAP * output_nusd


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "claude-sonnet-5-5"])
@pytest.mark.parametrize("case", list(CLAUDE))
def test_claude_bills_no_more_than_was_held(
    provider: Provider, claude: anthropic.Anthropic, case: str, model: str
) -> None:
    """The practical bound holds for each kind of attachment, and the estimate is near what is billed."""
    content, more = CLAUDE[case]["content"], {key: value for key, value in CLAUDE[case].items() if key != "content"}
    asked = {"model": model, "max_tokens": CAP, "messages": [{"role": "user", "content": content}], **more}
    nusd = (1_000, 5_000) if model == "claude-haiku-4-5" else (2_000, 10_000)
    bound = practical(read("messages", asked, None), *nusd)
    check(provider, lambda: bursar.wrap(claude).messages.create(**asked), bound, 0.25 if "tool" in case else 0.06)


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4.1-mini"])
@pytest.mark.parametrize("case", list(GPT))
def test_gpt_bills_no_more_than_was_held(provider: Provider, gpt: openai.OpenAI, case: str, model: str) -> None:
    """The same for OpenAI's models of tiles and of patches."""
    content, more = GPT[case]["content"], {key: value for key, value in GPT[case].items() if key != "content"}
    asked = {"model": model, "max_completion_tokens": CAP, "messages": [{"role": "user", "content": content}], **more}
    nusd = (2_500, 10_000) if model == "gpt-4o" else (400, 1_600)
    bound = practical(read("chat", asked, None), *nusd)
    near = 0.35 if case in {"tools", "pdf"} else 0.06
    check(provider, lambda: bursar.wrap(gpt).chat.completions.create(**asked), bound, near)


def test_responses_weigh_items_like_blocks(provider: Provider, gpt: openai.OpenAI) -> None:
    """A picture in the input of Responses is weighed like one in a chat."""
    picture = {"type": "input_image", "image_url": url("image/png", png(1_600, 1_200)), "detail": "high"}
    asked: dict[str, Any] = {
        "model": "gpt-4o",
        "max_output_tokens": CAP,
        "input": [{"role": "user", "content": [picture, {"type": "input_text", "text": "What is this?"}]}],
    }
    bound = practical(read("responses", asked, None), 2_500, 10_000)
    check(provider, lambda: bursar.wrap(gpt).responses.create(**asked), bound, 0.06)


def test_a_picture_that_is_sent_again_is_in_the_anchor() -> None:
    """What was counted once is not weighed again, and a picture teaches nothing about the weight of words."""

    def request(*turns: Any) -> Any:
        return read("messages", {"model": "claude-sonnet-5-5", "max_tokens": 9, "messages": list(turns)}, None)

    picture = {"role": "user", "content": claude_source("image", "image/png", png(1_000, 1_000))}
    estimator, conversation = Estimator(), 1
    first = request(picture)
    estimator.learn(first, "w", conversation, Answer(Status.OK, usage=Usage(2_000, 9)), 1, cut=False)
    second = request(picture, {"role": "assistant", "content": "A cat."})
    found = estimator.estimate(second, "w", conversation, None)
    assert 2_000 < found.input_likely < 2_020
    words = request({"role": "user", "content": "word " * 100})
    assert estimator.estimate(words, "w", 2, None) == Estimator().estimate(words, "w", 2, None)._replace(
        demand=estimator.estimate(words, "w", 2, None).demand, output_likely=9
    )


def test_base64_is_no_text() -> None:
    """A megabyte of picture adds neither bytes nor tokens of text; sealed thinking counts for what it hides."""
    picture = claude_source("image", "image/png", png(100, 100) + "A" * 1_000_000)
    script = read(
        "messages", {"model": "claude-opus-5-5", "messages": [{"role": "user", "content": picture}]}, None
    ).transcript
    assert script.utf8_bytes < 20
    assert script.tokens[0] < 20
    assert script.media == (16,)
    assert not script.unbounded
    sealed = {"type": "thinking", "thinking": "", "signature": "A" * 6_000}
    thought = read(
        "messages", {"model": "claude-opus-5-5", "messages": [{"role": "assistant", "content": [sealed]}]}, None
    )
    assert thought.transcript.tokens[0] == 1_004


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "image", "source": {"type": "base64", "data": "no base64 at all"}},
        {"type": "image", "source": 7},
        {"type": "image_url", "image_url": "data:image/png;base64"},
        {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}},
        {"type": "document", "source": {"type": "base64", "data": pdf(3)}},
        {"type": "input_file", "file_id": "file_1"},
        {"type": "input_audio", "input_audio": {"data": "SUQzBAAAAA==", "format": "mp3"}},
        {"type": "video", "url": "https://example.org/a.mp4"},
    ],
)
def test_what_cannot_be_seen_is_bounded_and_marked(block: dict[str, Any]) -> None:
    """An address, a stored file, damaged bytes: weighed at most as the vendor allows, never as nothing, and flagged."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": [block]}]}
    for api in ("messages", "chat"):
        script = read(api, body, None).transcript
        assert script.unbounded
        assert 0 < script.media[0] <= script.media_most[0]


def test_pictures_are_told_apart() -> None:
    """Two pictures of one size that differ somewhere in the middle are not taken for one another, nor two details."""
    blocks = [
        {
            "type": "image_url",
            "image_url": {"url": url("image/png", png(9, 9) + "A" * 9_000 + end + "A" * 9_000), **more},
        }
        for end, more in (("A", {}), ("B", {}), ("A", {"detail": "low"}))
    ]
    marks = {
        read("chat", {"model": "gpt-4o", "messages": [{"role": "user", "content": [b]}]}, None).transcript.marks
        for b in blocks
    }
    assert len(marks) == 3


def test_a_document_in_words_is_text() -> None:
    """A document that is sent as text is as long as its words, and bounded by them."""
    block = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "word " * 500}}
    script = read(
        "messages", {"model": "claude-opus-5-5", "messages": [{"role": "user", "content": [block]}]}, None
    ).transcript
    assert 500 <= script.tokens[0] <= 510
    assert (script.media, script.unbounded) == ((), False)
