"""One worker of `surface.py`: doors into both SDKs that the agents and the service do not go through, at random."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anthropic
import openai
import pydantic
import structlog

import bursar
from bursar import Budget
from bursar.runs.process import process
from scripts.soak.calls import FAILURES, PROMPT
from scripts.soak.clouds import azure, bedrock, foundry, openrouter, vertex
from scripts.soak.diary import Diary
from scripts.soak.marks import Mark, new_mark
from scripts.soak.specials import CHEAPER

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

CLAUDE: Final = "claude-sonnet-5-5"
_CACHED: Final = "These are the rules of the house, which are the same for everybody. " * 120
_SEARCH: Final = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
_ADVISOR: Final = {
    "type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5-5", "max_tokens": 200, "max_uses": 2,
}  # fmt: skip
_COMPACT: Final = {"edits": [{"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 50_000}}]}
_ROUTED: Final = ("openai/gpt-4o", "anthropic/claude-haiku-5.5", CHEAPER)
_OWN: Final = (RuntimeError, AttributeError, ValueError, pydantic.ValidationError, openai.LengthFinishReasonError)
"""What helpers and parsers of the SDKs raise for an answer that was cut, or whose usage is missing."""


class Rivers(pydantic.BaseModel):
    """What is made of an answer."""

    rivers: str


class Doors:
    """Clients of one process, and a method for each door; `ROUTES` says which there are."""

    def __init__(self, url: str, dice: random.Random) -> None:
        self.dice = dice
        here: Any = type("Here", (), {"anthropic_url": url, "openai_url": f"{url}/v1"})
        where: Any = {"api_key": "x", "max_retries": 1}
        self.claude = bursar.wrap(anthropic.Anthropic(base_url=url, **where))
        self.gpt = bursar.wrap(openai.OpenAI(base_url=here.openai_url, **where))
        self.aclaude = bursar.wrap(anthropic.AsyncAnthropic(base_url=url, **where))
        self.agpt = bursar.wrap(openai.AsyncOpenAI(base_url=here.openai_url, **where))
        self.strict = bursar.wrap(openai.OpenAI(base_url=here.openai_url, **where), strict=True)
        self.clouds = {
            "azure": bursar.wrap(azure(here)), "vertex": bursar.wrap(vertex(here)),
            "bedrock": bursar.wrap(bedrock(here)), "foundry": bursar.wrap(foundry(here)),
            "router": bursar.wrap(openrouter(here, max_retries=1)),
        }  # fmt: skip
        openai.api_key, openai.base_url, openai.max_retries = "x", f"{here.openai_url}/", 1
        bursar.wrap(openai)

    def said(self, mark: Mark) -> Any:
        """A question with the mark in it."""
        return [{"role": "user", "content": f"{mark} {self.dice.random()} {PROMPT * self.dice.randint(1, 20)}"}]

    def messages(self, mark: Mark, **more: Any) -> Any:
        """What Claude is asked."""
        return {"model": CLAUDE, "max_tokens": 400, "messages": self.said(mark)} | more

    def chat(self, mark: Mark, **more: Any) -> Any:
        """What GPT is asked."""
        return {"model": "gpt-4o", "max_completion_tokens": 400, "messages": self.said(mark)} | more

    def responses(self, mark: Mark, **more: Any) -> Any:
        """The same of its newer API."""
        return {"model": "gpt-4o", "max_output_tokens": 400, "input": self.said(mark)} | more

    def parsed(self, mark: Mark) -> None:
        """Answers as objects of the caller's."""
        ways: list[Callable[[], Any]] = [
            lambda: self.gpt.chat.completions.parse(**self.chat(mark), response_format=Rivers),
            lambda: self.gpt.responses.parse(**self.responses(mark), text_format=Rivers),
            lambda: self.claude.messages.parse(**self.messages(mark), output_format=Rivers),
            lambda: asyncio.run(self._parsed(mark)),
        ]
        self.dice.choice(ways)()

    async def _parsed(self, mark: Mark) -> None:
        await self.agpt.chat.completions.parse(**self.chat(mark), response_format=Rivers)

    def helped(self, mark: Mark) -> None:
        """Streams by their helpers on a loop, some of them left."""
        asyncio.run(self._helped(mark))

    async def _helped(self, mark: Mark) -> None:
        # One that is made and not entered leaves a coroutine behind that nobody awaits.
        managers: list[Callable[[], Any]] = [
            lambda: self.aclaude.messages.stream(**self.messages(mark)),
            lambda: self.agpt.chat.completions.stream(**self.chat(mark)),
            lambda: self.agpt.responses.stream(**self.responses(mark)),
        ]
        for manager in self.dice.sample(managers, 2):
            async with manager() as events:
                async for _ in events:
                    if self.dice.random() < 0.01:
                        break

    def module(self, mark: Mark) -> None:
        """The module's own client, made anew now and then."""
        if self.dice.random() < 0.3:
            openai._reset_client()  # noqa: SLF001 - what programs do that change their settings
        if self.dice.random() < 0.5:
            openai.chat.completions.create(**self.chat(mark))
        else:
            list(openai.responses.create(**self.responses(mark), stream=True))

    def azure(self, mark: Mark) -> None:
        """Azure's client, streamed or not."""
        answer: Any = self.clouds["azure"].chat.completions.create(**self.chat(mark), stream=self.dice.random() < 0.5)
        list(answer)

    def vertex(self, mark: Mark) -> None:
        """Google's."""
        asked = self.messages(mark, model="claude-sonnet-4-5@20250929", stream=self.dice.random() < 0.5)
        list(self.clouds["vertex"].messages.create(**asked))

    def bedrock(self, mark: Mark) -> None:
        """Amazon's."""
        asked = self.messages(mark, model="global.anthropic.claude-haiku-4-5-20251001-v1:0")
        self.clouds["bedrock"].messages.create(**asked)

    def foundry(self, mark: Mark) -> None:
        """Microsoft's."""
        list(self.clouds["foundry"].messages.create(**self.messages(mark, stream=self.dice.random() < 0.5)))

    def router(self, mark: Mark) -> None:
        """OpenRouter's, which says what it takes: the vendors' prices, or less."""
        asked = self.chat(mark, model=self.dice.choice(_ROUTED), stream=self.dice.random() < 0.5)
        list(self.clouds["router"].chat.completions.create(**asked))

    def cached(self, mark: Mark) -> None:
        """A prefix that is written for five minutes or an hour, then read."""
        life = self.dice.choice(["5m", "1h"])
        text = f"{mark} {_CACHED}"
        system = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": life}}]
        for _ in range(2):
            list(self.claude.messages.create(**self.messages(mark, system=system, stream=self.dice.random() < 0.5)))

    def written(self, mark: Mark) -> None:
        """A prefix that OpenAI writes for half an hour, or for half a day."""
        kept = self.dice.choice([{}, {"prompt_cache_retention": "24h"}])
        self.gpt.responses.create(**self.responses(mark, model="gpt-6.1-terra", prompt_cache_key="house", **kept))

    def tiers(self, mark: Mark) -> None:
        """Flex, priority, fast mode and the United States, each at its own price."""
        ways: list[Callable[[], Any]] = [
            lambda: self.gpt.responses.create(**self.responses(mark, model="gpt-5-mini", service_tier="flex")),
            lambda: self.gpt.chat.completions.create(**self.chat(mark, service_tier="priority")),
            lambda: list(self.gpt.responses.create(**self.responses(mark, service_tier="priority", stream=True))),
            lambda: self.claude.beta.messages.create(**self.messages(mark, model="claude-opus-5-5", speed="fast")),
            lambda: self.claude.messages.create(**self.messages(mark, inference_geo="us")),
        ]
        self.dice.choice(ways)()

    def searched(self, mark: Mark) -> None:
        """Claude looks something up, at a fee."""
        list(self.claude.messages.create(**self.messages(mark, tools=[_SEARCH], stream=self.dice.random() < 0.5)))

    def advised(self, mark: Mark) -> None:
        """Claude asks a dearer model, at that one's price."""
        asked = self.messages(mark, tools=[_ADVISOR], stream=self.dice.random() < 0.5)
        list(self.claude.beta.messages.create(**asked))

    def declined(self, mark: Mark) -> None:
        """Claude declines now and then, and a dearer model answers in its place."""
        asked = self.messages(mark, max_tokens=self.dice.choice([100, 400]), stream=self.dice.random() < 0.5)
        asked["fallbacks"] = [{"model": "claude-opus-5-5"}]
        list(self.claude.beta.messages.create(**asked, betas=["server-side-fallback-2026-07-01"]))

    def compacted(self, mark: Mark) -> None:
        """A context that the provider sums up, which is in no total."""
        said = [{"role": "user", "content": f"{mark} {self.dice.random()} {PROMPT * 4_800}"}]
        asked = self.messages(mark, context_management=_COMPACT, stream=self.dice.random() < 0.5)
        asked |= {"model": "claude-haiku-5-5", "messages": said}
        list(self.claude.beta.messages.create(**asked, betas=["compact-2026-01-12"]))

    def spoken(self, mark: Mark) -> None:
        """An answer with sound in it."""
        asked = self.chat(mark, model="gpt-audio", modalities=["text", "audio"])
        self.gpt.chat.completions.create(**asked, audio={"voice": "alloy", "format": "wav"})

    def refused(self, mark: Mark) -> None:
        """What a strict client does not let through; then a call that it does."""
        for order in (
            lambda: self.strict.images.generate(prompt=str(mark), model="gpt-image-1"),
            lambda: self.strict.responses.create(**self.responses(mark), background=True),
            lambda: self.strict.realtime.connect(model="gpt-realtime"),
        ):
            with contextlib.suppress(bursar.ConfigError):
                order()
                raise AssertionError("a strict client has let through what cannot be metered")
        self.strict.chat.completions.create(**self.chat(mark))


ROUTES: Final[tuple[Callable[[Doors, Mark], None], ...]] = (
    Doors.parsed, Doors.helped, Doors.module, Doors.azure, Doors.vertex, Doors.bedrock, Doors.foundry, Doors.cached,
    Doors.router, Doors.written, Doors.tiers, Doors.searched, Doors.advised, Doors.declined, Doors.compacted,
    Doors.spoken, Doors.refused,
)  # fmt: skip


def main() -> None:
    """Go through doors until told to end."""
    place, url, number = json.loads(os.environ["BURSAR_SURFACE"])
    warnings.simplefilter("ignore")
    told: list[int] = []

    def end(signum: int, _: FrameType | None) -> None:
        told.append(signum)

    signal.signal(signal.SIGTERM, end)
    if os.environ["BURSAR_TRACE"] == "structlog":
        events = (Path(place) / f"events-{number}.jsonl").open("ab", buffering=0)
        structlog.configure([structlog.processors.JSONRenderer(lambda *a, **k: json.dumps(*a, **k).encode())],
                            logger_factory=structlog.BytesLoggerFactory(events))  # fmt: skip
    diary, dice = Diary(Path(place) / "diary.jsonl"), random.Random(number)
    doors = Doors(url, dice)
    print("ready", flush=True)
    while not told:
        for door in dice.sample(ROUTES, len(ROUTES)):
            if not told:
                go_through(door, doors, diary, str(number))
    process().close()


def go_through(door: Callable[[Doors, Mark], None], doors: Doors, diary: Diary, worker: str) -> None:
    """One run with some calls, and its end written down."""
    mark, stopped = new_mark(user="u"), None
    limit = Budget(usd=doors.dice.choice(["0.02", "0.10", "1"]))
    try:
        with bursar.run("surface", limit, feature=door.__name__, worker=worker) as run:
            for _ in range(doors.dice.randint(1, 3)):
                with contextlib.suppress(*FAILURES, *_OWN):
                    door(doors, mark)
    except bursar.Stopped as stop:
        stopped = type(stop).__name__
    finally:
        diary.note(mark, door.__name__, run.id, limit.limits().get("usd"), run.spend.held.nusd, stopped)


if __name__ == "__main__":
    main()
