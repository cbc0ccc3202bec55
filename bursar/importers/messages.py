"""Answers and conversations that somebody kept: objects as the APIs return them, or lists of messages with usages.

    {"object": "chat.completion", ...}, {"type": "message", ...}, {"object": "response", ...}   an answer each
    {"messages": [...], "model": ..., "id": ...}, or the list alone                             a conversation each

A file is one JSON document, or has one a line. A conversation becomes a run; each of its answers with a usage a row.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import orjson

from bursar.clients.answers import of_message
from bursar.importers.found import Found, json_lines, time_us
from bursar.tracing.imports import Entry, tags
from bursar.words.errors import RecordingError
from bursar.words.records import UNATTRIBUTED, Who

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bursar.importers.priced import Pricer

SOURCE: Final = "messages"
_TIMES: Final = ("timestamp", "created_at", "created", "date", "time")
_UNDATED: Final = "undated"
"""Flag: nothing says when it was; it is dated by its file."""


def read_messages(path: Path, pricer: Pricer, workflow: str | None = None) -> Found:
    """Read a file. Raises `RecordingError` where it cannot be read."""
    found = Found(str(path))
    try:
        dated_us = path.stat().st_mtime_ns // 1_000
    except OSError as error:
        raise RecordingError(str(path), None, f"cannot be read ({error.strerror})") from None
    seen = set[str]()
    for number, value in _documents(path, found):
        reader = _Document(path, number, dated_us, workflow or UNATTRIBUTED, pricer, found, seen)
        if isinstance(value, list):
            value = {"messages": value}  # noqa: PLW2901 - a list alone is a conversation without a name
        if isinstance(value.get("messages"), list):
            reader.conversation(value)
        else:
            reader.answer(value, value, None, None, _digest(value))
    return found


def _documents(path: Path, found: Found) -> Iterator[tuple[int | None, Any]]:
    with path.open("rb") as file:
        head = file.read(1_024).lstrip()[:1]
    if head == b"[":
        try:
            whole = orjson.loads(path.read_bytes())
        except ValueError as error:
            raise RecordingError(str(path), None, f"is no JSON ({error})") from None
        found.lines += 1
        roles = [item.get("role") for item in whole if isinstance(item, dict)]
        if len(roles) == len(whole) and all(roles) and set(roles) != {"assistant"}:
            yield None, whole
            return
        for item in whole:
            if isinstance(item, dict):
                yield None, item
            else:
                found.problem(None, f"has a {type(item).__name__} where an object should be")
        return
    try:
        whole = orjson.loads(path.read_bytes())
    except ValueError:
        # More than one: one a line.
        yield from ((line.number, line.value) for line in json_lines(path, found))
        return
    found.lines += 1
    if isinstance(whole, dict):
        yield None, whole
    else:
        found.problem(None, f"is a {type(whole).__name__}, not an object")


class _Document:
    """One answer or one conversation of a file; `seen` has what names the answers before it."""

    def __init__(
        self,
        path: Path,
        line: int | None,
        dated_us: int,
        workflow: str,
        pricer: Pricer,
        found: Found,
        seen: set[str],
    ) -> None:
        self._path, self._line, self._dated_us, self._seen = path, line, dated_us, seen
        self._workflow, self._pricer, self._found = workflow, pricer, found

    def conversation(self, value: dict[str, Any]) -> None:
        """Each answer in it that has a usage."""
        name = _text(value, "id", "session_id", "conversation_id")
        # A conversation without a name goes by its place, since it may grow.
        place = f"{self._path.resolve()}:{self._line}"
        session = name or f"{self._path.name}{'' if self._line is None else f':{self._line}'}"
        for number, message in enumerate(value["messages"]):
            if not isinstance(message, dict):
                self._found.problem(self._line, "has a message that is no object")
            elif message.get("role") == "assistant" and isinstance(message.get("usage"), dict):
                self.answer(message, value, session, value.get("model"), f"{name or place}\0{number}")
            elif message.get("role") == "assistant":
                self._found.skipped["an answer without a usage"] += 1
            else:
                self._found.skipped["no answer of a model"] += 1

    def answer(self, value: dict[str, Any], around: dict[str, Any], session: str | None, model: Any, name: str) -> None:
        """One answer: `around` is what it stands in, `model` and `name` what it has where it does not say."""
        body = value if value.get("model") or model is None else {**value, "model": model}
        api = _api(body)
        if api is None or not isinstance(body.get("usage"), dict):
            self._found.problem(self._line, "is neither an answer with a usage nor a conversation")
            return
        read = of_message(api, body, _text(body, "request_id", "_request_id"))
        if read.usage is None:
            self._found.problem(self._line, f"has a usage that cannot be true ({', '.join(read.flags)})")
            return
        if not read.response_model:
            self._found.problem(self._line, "does not say which model answered")
            return
        key = read.response_id or name
        if key in self._seen:
            self._found.merged += 1
            return
        self._seen.add(key)
        ts_us = next((at for each in (value, around) for field in _TIMES if (at := time_us(each.get(field)))), None)
        if ts_us is None:
            read = read._replace(flags=(*read.flags, _UNDATED))
        who = Who(tags(SOURCE, self._workflow), None, session)
        call = self._pricer.answered(read, _provider(api, body["model"]), ts_us or self._dated_us, who)
        self._found.entries.append(Entry(SOURCE, key, call, None, session))


def _api(body: dict[str, Any]) -> str | None:
    usage = body.get("usage")
    if body.get("object") == "response":
        return "responses"
    if body.get("object") == "chat.completion" or (isinstance(usage, dict) and "prompt_tokens" in usage):
        return "chat"
    if isinstance(usage, dict) and "input_tokens" in usage:
        return "messages" if body.get("role") == "assistant" or body.get("type") == "message" else "responses"
    return None


def _provider(api: str, model: str) -> str:
    if api == "messages":
        return "anthropic"
    from bursar.pricing.rates import find_provider

    return find_provider(model) or "openai"


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _text(value: dict[str, Any], *names: str) -> str | None:
    return next((value[name] for name in names if isinstance(value.get(name), str)), None)
