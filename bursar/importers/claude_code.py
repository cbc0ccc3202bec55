"""Transcripts of Claude Code: one JSON object a line, one file a session, sub-agents in files of their own or within.

An answer is written as one line for each block of its content, each with the usage so far, and is copied whole into
the file of a session that was resumed or forked: its message and request ids make it one row, the last count is right.
Some versions write only the first one, with the few tokens of output that there were by then: such a cost is a lower
bound.
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.clients.answers import of_message
from bursar.importers.found import Found, json_lines, time_us
from bursar.importers.priced import at_least
from bursar.tracing.imports import Entry, tags
from bursar.words.records import Who

if TYPE_CHECKING:
    from bursar.importers.found import Line
    from bursar.importers.priced import Pricer

SOURCE: Final = "claude-code"
_SYNTHETIC: Final = "<synthetic>"
"""The model of messages that Claude Code wrote itself, mostly of errors: nothing was billed for them."""
_CLOUDS: Final = {"msg_bdrk_": "aws.bedrock", "msg_vrtx_": "gcp.vertex_ai"}
"""How the ids of messages begin that came from a cloud instead of from Anthropic."""


class _Parts(NamedTuple):
    """One answer as far as it was read: its first line, its time, its blocks and the usage that counts most.

    ended: whether a line of it says why it ended; until then its usage counts the output as it was at its beginning.
    """

    line: int
    ts_us: int
    value: dict[str, Any]
    message: dict[str, Any]
    blocks: dict[str, Any]
    ended: bool


def home() -> Path:
    """Where Claude Code keeps its transcripts."""
    import os

    return Path(os.environ.get("CLAUDE_CONFIG_DIR") or Path.home() / ".claude") / "projects"


def transcripts(folder: Path) -> list[Path]:
    """The transcripts below a folder, those that were written to last at the end: a copy comes after its original."""
    files = [path for path in folder.rglob("*.jsonl") if path.is_file()]
    return sorted(files, key=lambda path: (path.stat().st_mtime_ns, str(path)))


def is_transcript(value: dict[str, Any]) -> bool:
    """Whether an object is a line of a transcript."""
    return "sessionId" in value or value.get("type") in ("summary", "file-history-snapshot", "queue-operation")


def read_transcript(path: Path, pricer: Pricer, workflow: str | None = None) -> Found:
    """Read one file. Raises `RecordingError` where it cannot be read at all."""
    found, answers = Found(str(path)), dict[str, _Parts]()
    for line in json_lines(path, found):
        _feed(line, answers, found)
    for key, parts in answers.items():
        entry = _entry(key, parts, pricer, workflow or SOURCE, found)
        if entry is not None:
            found.entries.append(entry)
    return found


def _feed(line: Line, answers: dict[str, _Parts], found: Found) -> None:
    value, message = line.value, line.value.get("message")
    if value.get("type") != "assistant":
        kind = value.get("subtype") if value.get("type") == "system" else None
        found.skipped["compaction" if kind == "compact_boundary" else "no answer of a model"] += 1
        return
    if not isinstance(message, dict):
        found.problem(line.number, "is an answer without a message")
        return
    if message.get("model") == _SYNTHETIC:
        found.skipped["written by Claude Code itself"] += 1
        return
    ts_us = time_us(value.get("timestamp"))
    if ts_us is None:
        found.problem(line.number, f"has no time that can be one: {str(value.get('timestamp'))[:40]!r}")
        return
    if not isinstance(message.get("usage"), dict):
        found.problem(line.number, "is an answer without a usage")
        return
    key = _key(line)
    known = answers.get(key)
    if known is None:
        ended = message.get("stop_reason") is not None
        answers[key] = _Parts(line.number, ts_us, value, message, _blocks(message), ended)
        return
    found.merged += 1
    known.blocks.update(_blocks(message))
    fuller = message if _written(message) >= _written(known.message) else known.message
    ended = known.ended or message.get("stop_reason") is not None
    answers[key] = known._replace(ts_us=min(known.ts_us, ts_us), message=fuller, ended=ended)


def _key(line: Line) -> str:
    message_id, request_id = line.value["message"].get("id"), line.value.get("requestId")
    if isinstance(message_id, str) and message_id:
        return f"{message_id}\0{request_id or ''}"
    return str(line.value.get("uuid") or hashlib.sha256(line.raw).hexdigest())


def _entry(key: str, parts: _Parts, pricer: Pricer, workflow: str, found: Found) -> Entry | None:
    value, message = parts.value, parts.message
    answer = of_message("messages", {**message, "content": list(parts.blocks.values())}, _text(value, "requestId"))
    if answer.usage is None:
        found.problem(parts.line, f"has a usage that cannot be true ({', '.join(answer.flags)})")
        return None
    if not answer.response_model:
        found.problem(parts.line, "does not say which model answered")
        return None
    session = _text(value, "sessionId")
    # One name for all of them: their own are as many as they are.
    agent = "sub-agent" if value.get("isSidechain") is True or _text(value, "agentId") else None
    folder = _text(value, "cwd")
    who = Who(
        tags(
            SOURCE,
            workflow,
            feature=PurePath(folder).name or None if folder else None,
            release=_text(value, "version"),
            agent=agent,
        ),
        None,
        session,
    )
    call = pricer.answered(answer, _provider(message), parts.ts_us, who)
    return Entry(SOURCE, key, call if parts.ended else at_least(call), None, session)


def _provider(message: dict[str, Any]) -> str:
    name = str(message.get("id"))
    return next((cloud for mark, cloud in _CLOUDS.items() if name.startswith(mark)), "anthropic")


def _blocks(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    # Only calls of tools are counted, and each has an id of its own.
    return {block["id"]: block for block in blocks if isinstance(block.get("id"), str)}


def _written(message: dict[str, Any]) -> int:
    count = message["usage"].get("output_tokens")
    return count if isinstance(count, int) else 0


def _text(value: dict[str, Any], name: str) -> str | None:
    found = value.get(name)
    return found if isinstance(found, str) and found else None
