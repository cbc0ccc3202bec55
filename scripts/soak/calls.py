"""One call of an SDK: which API, how it is read, and whether its reader stays to the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import anthropic
import httpx2
import openai

from scripts.soak import attachments
from scripts.soak.provider import OWN_MODEL

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from scripts.soak.marks import Mark

PROMPT: Final = "Where is the order of customer 17? Answer in one paragraph. "
KINDS: Final = ("chat", "messages", "responses")
READS: Final = ("plain", "stream", "raw", "raw stream", "body", "lines")
"""As the SDK's object or its stream; of `with_raw_response` parsed; of `with_streaming_response`."""
FAILURES: Final = (anthropic.APIError, openai.APIError, httpx2.HTTPError)
"""What an agent takes for a failed call; streams that break raise the transport's own error."""
_CLAUDES: Final = ("claude-sonnet-5-5", "claude-haiku-5-5", OWN_MODEL)


class Calls:
    """Makes calls with the wrapped clients of one process."""

    def __init__(self, clients: dict[str, Any], dice: random.Random) -> None:
        self.clients, self.dice = clients, dice

    def request(self, kind: str, mark: Mark, *, attached: bool = False) -> dict[str, Any]:
        """What one call asks for, with the mark in it."""
        dice = self.dice
        text = f"{mark} {dice.random()} " + PROMPT * dice.randint(1, 40)
        cap = dice.choice([200, 400, 1_000, 4_000])
        word = "input_text" if kind == "responses" else "text"
        content: Any = [{"type": word, "text": text}, *attachments.blocks(kind, dice)] if attached else text
        said = [{"role": "user", "content": content}]
        if kind == "messages":
            return {"model": dice.choice(_CLAUDES), "max_tokens": cap, "messages": said}
        if kind == "responses":
            return {"model": "gpt-4o", "input": said, "max_output_tokens": cap}
        return {"model": "gpt-4o", "messages": said, "max_completion_tokens": cap}

    def call(self, mark: Mark, read: str | None = None, *, attached: bool = False) -> None:
        """Block for one call, sometimes leaving it in the middle."""
        kind, read = self.dice.choice(KINDS), read or self.dice.choice(READS[:2])
        asked, stays = self.request(kind, mark, attached=attached), self._stays()
        method = self._method(kind, read, is_async=False)
        if read == "plain":
            method(**asked)
        elif read == "raw":
            method(**asked).parse()
        elif read == "body":
            with method(**asked) as response:
                response.read()
        elif read == "lines":
            with method(**asked, stream=True) as response:
                _take(response.iter_lines(), stays)
        else:
            answer = method(**asked, stream=True)
            with answer.parse() if read == "raw stream" else answer as events:
                _take(events, stays)

    async def acall(self, mark: Mark, read: str | None = None, *, attached: bool = False) -> None:
        """Await one call, sometimes leaving it in the middle or cancelling it."""
        if self.dice.random() < 0.05:
            async with asyncio.timeout(self.dice.uniform(0.01, 0.3)):
                await self._acall(mark, read, attached=attached)
        else:
            await self._acall(mark, read, attached=attached)

    async def _acall(self, mark: Mark, read: str | None, *, attached: bool) -> None:
        kind, read = self.dice.choice(KINDS), read or self.dice.choice(READS[:2])
        asked, stays = self.request(kind, mark, attached=attached), self._stays()
        method = self._method(kind, read, is_async=True)
        if read == "plain":
            await method(**asked)
        elif read == "raw":
            parsed = (await method(**asked)).parse()
            await parsed if asyncio.iscoroutine(parsed) else None
        elif read == "body":
            async with method(**asked) as response:
                await response.read()
        elif read == "lines":
            async with method(**asked, stream=True) as response:
                await _atake(response.iter_lines(), stays)
        else:
            answer = await method(**asked, stream=True)
            if read == "raw stream":
                answer = answer.parse()
                answer = await answer if asyncio.iscoroutine(answer) else answer
            async with answer as events:
                await _atake(events, stays)

    def _method(self, kind: str, read: str, *, is_async: bool) -> Callable[..., Any]:
        client = self.clients[("async " if is_async else "") + ("messages" if kind == "messages" else "openai")]
        api = client.messages if kind == "messages" else client.responses
        api = client.chat.completions if kind == "chat" else api
        if read in ("raw", "raw stream"):
            api = api.with_raw_response
        elif read in ("body", "lines"):
            api = api.with_streaming_response
        method: Callable[..., Any] = api.create
        return method

    def _stays(self) -> Callable[[], bool]:
        return lambda: self.dice.random() > 0.005


def _take(events: Any, stays: Callable[[], bool]) -> None:
    for number, _ in enumerate(events):
        if number > 3 and not stays():
            return


async def _atake(events: Any, stays: Callable[[], bool]) -> None:
    number = 0
    async for _ in events:
        number += 1
        if number > 3 and not stays():
            return
