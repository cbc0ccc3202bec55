"""Batches and background responses, each step behind one function that serves sync and async clients alike."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

import bursar
from bursar.runs.process import process
from bursar.tracing.queries import Reader

if TYPE_CHECKING:
    from bursar.testing import Provider
    from bursar.words.rows import CallRow, SpendRow

HI: Any = [{"role": "user", "content": "hi"}]
VENDORS = ("anthropic", "anthropic beta", "openai")
WAYS = ("sync", "async")
Open = Callable[..., "Client"]
"""Opens a `Client` for as long as the test lasts."""


class Client:
    """A wrapped client of either vendor; every step is awaited where that is needed."""

    def __init__(self, provider: Provider, vendor: str, way: str = "sync", **options: Any) -> None:
        self.vendor, self.provider = vendor, provider
        self._runner = asyncio.Runner() if way == "async" else None
        made: Any
        if vendor == "openai":
            made = openai.AsyncOpenAI if self._runner else openai.OpenAI
            client = made(base_url=provider.openai_url, api_key="x", max_retries=0)
        else:
            made = anthropic.AsyncAnthropic if self._runner else anthropic.Anthropic
            client = made(base_url=provider.anthropic_url, api_key="x", max_retries=0)
        self.sdk: Any = bursar.wrap(client, **options)

    def close(self) -> None:
        self.done(self.sdk.close())
        if self._runner:
            self._runner.close()

    def done(self, asked: Any) -> Any:
        """What a call gives, awaited if it must be."""
        if inspect.isawaitable(asked):
            return self._run(_awaited(asked))
        return asked

    def _run(self, asked: Any) -> Any:
        # In the run that is open now, not in the one that was open when the runner was made.
        assert self._runner is not None
        return self._runner.run(asked, context=contextvars.copy_context())

    @property
    def batches(self) -> Any:
        if self.vendor == "openai":
            return self.sdk.batches
        return self.sdk.beta.messages.batches if self.vendor == "anthropic beta" else self.sdk.messages.batches

    def upload(self, names: list[str], **options: Any) -> str:
        """Upload the requests of a batch of OpenAI's."""
        body = {"model": "gpt-4o", "max_completion_tokens": 300, "messages": HI} | options
        lines = [
            json.dumps({"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body})
            for name in names
        ]
        content = ("\n".join(lines) + "\n").encode()
        file = self.done(self.sdk.files.create(file=("requests.jsonl", content), purpose="batch"))
        return str(file.id)

    def order(self, names: list[str], *, file: str | None = None, **options: Any) -> str:
        """Make a batch; its id."""
        if self.vendor == "openai":
            file = file or self.upload(names, **options)
            made = self.batches.create(input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h")
            return str(self.done(made).id)
        body = {"model": "claude-sonnet-5-5", "max_tokens": 300, "messages": HI} | options
        requests = [{"custom_id": name, "params": body} for name in names]
        return str(self.done(self.batches.create(requests=requests)).id)

    def files(self, batch: str) -> list[str]:
        """The files of results of a batch of OpenAI's, once it has ended."""
        self.provider.wait_idle()
        found = self.done(self.batches.retrieve(batch))
        return [file for file in (found.output_file_id, found.error_file_id) if file is not None]

    def results(self, batch: str, take: int | None = None) -> list[str]:
        """Read the results of a batch, or the first few of them; the custom ids in the order they came."""
        self.provider.wait_idle()
        if self.vendor == "openai":
            return [name for file in self.files(batch) for name in self._file(file, take)]
        stream = self.done(self.batches.results(batch))
        if self._runner:
            found: list[str] = self._run(_anames(stream, take))
            return found
        names = []
        for result in stream:
            names.append(result.custom_id)
            if take is not None and len(names) >= take:
                stream.close()
                break
        return names

    def _file(self, file: str, take: int | None) -> list[str]:
        if take is None:
            content = self.done(self.sdk.files.content(file)).content
            return [json.loads(line)["custom_id"] for line in content.splitlines()]
        if self._runner:
            found: list[str] = self._run(_alines(self.sdk.files.with_streaming_response.content(file), take))
            return found
        names = []
        with self.sdk.files.with_streaming_response.content(file) as response:
            for line in response.iter_lines():
                names.append(json.loads(line)["custom_id"])
                if len(names) >= take:
                    break
        return names


async def _awaited(asked: Any) -> Any:
    return await asked


async def _anames(stream: Any, take: int | None) -> list[str]:
    names = []
    async for result in stream:
        names.append(result.custom_id)
        if take is not None and len(names) >= take:
            await stream.close()
            break
    return names


async def _alines(asked: Any, take: int) -> list[str]:
    names: list[str] = []
    async with asked as response:
        async for line in response.iter_lines():
            names.append(json.loads(line)["custom_id"])
            if len(names) >= take:
                break
    return names


def ledger_rows() -> list[CallRow]:
    """Every row of every run."""
    with Reader(Path(process().ledger.path)) as reader:
        return reader.calls(reader.runs(1_000))


def report(by: str = "workflow") -> dict[str, SpendRow]:
    """What the ledger says each value of a tag has spent, calls outside of runs included."""
    with Reader(Path(process().ledger.path)) as reader:
        return {row.key: row for row in reader.spend_by(by)}


def said_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a process have said all there is to say about what is not metered call by call."""
    from bursar.clients import unmetered

    monkeypatch.setattr(unmetered, "_said", {"batches", "background responses", "files"})
