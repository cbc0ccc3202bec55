"""Every entry point of both SDKs that costs money and is metered, each behind one function, sync and async."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import anthropic
import openai
import pydantic

MESSAGES = [{"role": "user", "content": "Name three rivers."}]


class Rivers(pydantic.BaseModel):
    """What `parse` makes of an answer."""

    rivers: str


CLAUDE: Any = {"model": "claude-sonnet-5-5", "max_tokens": 500, "messages": MESSAGES}
CHAT: Any = {"model": "gpt-4o", "max_completion_tokens": 500, "messages": MESSAGES}
RESPONSES: Any = {"model": "gpt-4o", "max_output_tokens": 500, "input": "Name three rivers."}
COMPLETIONS: Any = {"model": "gpt-3.5-turbo-instruct", "max_tokens": 500, "prompt": "Name three rivers."}
EMBEDDINGS: Any = {"model": "text-embedding-3-small", "input": ["Elbe", "Oder", "Rhine"]}
STREAM: Any = {"stream": True}


@dataclass(frozen=True)
class Entry:
    """One entry point: the SDK's name, the method's path on the client, its arguments, how its answer is read.

    reads: "object" as it is; "parse" of a raw response; "events" of a stream; "parsed events" of a raw response;
    "helper", a manager that gives events; "body", "lines" and "pieces" (of bytes) of a streaming response; "runner", a
    tool loop.
    """

    sdk: str
    path: str
    reads: str
    arguments: Any = field(hash=False)

    def __str__(self) -> str:
        return f"{self.sdk}-{self.path}-{self.reads}".replace(" ", "-")

    @property
    def streams(self) -> bool:
        return self.reads in ("events", "parsed events", "helper", "lines", "pieces")

    def exists(self) -> bool:
        """Whether the SDK at hand has it: the oldest supported ones lack some."""
        made: Any = openai.OpenAI if self.sdk == "openai" else anthropic.Anthropic
        try:
            attrgetter(self.path)(made(api_key="x"))
        except AttributeError:
            return False
        return True

    def call(self, client: Any, take: int | None = None) -> list[Any]:
        """Ask once and read the answer, or only its first events."""
        asked = attrgetter(self.path)(client)(**self.arguments)
        if self.reads == "runner":
            return [asked.until_done()]
        if self.reads == "object":
            return [asked]
        if self.reads == "parse":
            return [asked.parse()]
        if self.reads == "parsed events":
            asked = asked.parse()
        with asked as answer:
            if self.reads == "body":
                return [answer.read()]
            return _some(self._parts(answer), take)

    async def acall(self, client: Any, take: int | None = None) -> list[Any]:
        """As `call`, of an async client."""
        asked = attrgetter(self.path)(client)(**self.arguments)
        if self.reads == "runner":
            return [await asked.until_done()]
        if self.reads in ("object", "parse", "events", "parsed events"):
            asked = await asked
        if self.reads == "object":
            return [asked]
        if self.reads in ("parse", "parsed events"):
            asked = asked.parse()
            asked = await asked if inspect.isawaitable(asked) else asked
        if self.reads == "parse":
            return [asked]
        async with asked as answer:
            if self.reads == "body":
                return [await answer.read()]
            return await _asome(self._parts(answer), take)

    def _parts(self, answer: Any) -> Any:
        if self.reads == "pieces":
            return answer.iter_bytes()
        return answer.iter_lines() if self.reads == "lines" else answer


def _some(answer: Any, take: int | None) -> list[Any]:
    events = []
    for event in answer:
        events.append(event)
        if take is not None and len(events) >= take:
            break
    return events


async def _asome(answer: Any, take: int | None) -> list[Any]:
    events = []
    async for event in answer:
        events.append(event)
        if take is not None and len(events) >= take:
            break
    return events


def _of(sdk: str, base: str, arguments: Any, *, parse: Any = None, helper: bool = True) -> list[Entry]:
    found = [
        Entry(sdk, f"{base}.create", "object", arguments),
        Entry(sdk, f"{base}.with_raw_response.create", "parse", arguments),
        Entry(sdk, f"{base}.with_streaming_response.create", "body", arguments),
        Entry(sdk, f"{base}.create", "events", arguments | STREAM),
        Entry(sdk, f"{base}.with_raw_response.create", "parsed events", arguments | STREAM),
        Entry(sdk, f"{base}.with_streaming_response.create", "lines", arguments | STREAM),
    ]
    if helper:
        found.append(Entry(sdk, f"{base}.stream", "helper", arguments))
    if parse is not None:
        found.append(Entry(sdk, f"{base}.parse", "object", arguments | parse))
    return found


ENTRIES = [
    *_of("openai", "chat.completions", CHAT, parse={"response_format": Rivers}),
    *_of("openai", "responses", RESPONSES, parse={"text_format": Rivers}),
    *_of("openai", "completions", COMPLETIONS, helper=False),
    Entry("openai", "beta.chat.completions.parse", "object", CHAT | {"response_format": Rivers}),
    Entry("openai", "beta.chat.completions.stream", "helper", CHAT),
    Entry("openai", "embeddings.create", "object", EMBEDDINGS),
    Entry("openai", "embeddings.with_raw_response.create", "parse", EMBEDDINGS),
    Entry("openai", "embeddings.with_streaming_response.create", "body", EMBEDDINGS),
    *_of("anthropic", "messages", CLAUDE, parse={"output_format": Rivers}),
    *_of("anthropic", "beta.messages", CLAUDE, parse={"output_format": Rivers}),
    Entry("anthropic", "beta.messages.tool_runner", "runner", CLAUDE | {"tools": []}),
]
