"""What others have written down, made up: transcripts, kept answers, old exports. All are of days before the soak.

So the provider's bill of today, which the ledger is held against at the end, knows nothing of them.
"""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MODEL: Final = "claude-haiku-5-5"
_BEFORE: Final = timedelta(days=3)


def transcript(folder: Path, name: str, turns: int = 6) -> Path:
    """A session of a coding agent."""
    began = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0) - _BEFORE
    lines = []
    for turn in range(turns):
        usage = {
            "input_tokens": 100 + turn, "cache_read_input_tokens": 4_000 * turn, "output_tokens": 80,
            "cache_creation_input_tokens": 900,
            "cache_creation": {"ephemeral_5m_input_tokens": 900, "ephemeral_1h_input_tokens": 0},
        }  # fmt: skip
        message = {
            "id": f"msg_{name}_{turn}", "type": "message", "role": "assistant", "model": MODEL, "usage": usage,
            "content": [{"type": "text", "text": "done"}], "stop_reason": "end_turn",
        }  # fmt: skip
        at = (began + timedelta(seconds=30 * turn)).isoformat().replace("+00:00", "Z")
        lines.append({
            "type": "assistant", "message": message, "requestId": f"req_{name}_{turn}", "sessionId": name,
            "uuid": f"{name}-{turn}", "timestamp": at, "cwd": "/home/ana/shop", "version": "2.3.1",
        })  # fmt: skip
    return _lines(folder / f"transcript-{name}.jsonl", lines)


def answers(folder: Path, name: str) -> Path:
    """A conversation with the usages of its answers."""
    at = (datetime.now(UTC) - _BEFORE).replace(microsecond=0).isoformat()
    said: list[dict[str, Any]] = []
    for turn in range(4):
        said.append({"role": "user", "content": f"and what of order {turn}?"})
        usage = {"prompt_tokens": 500 + 90 * turn, "completion_tokens": 60, "total_tokens": 560 + 90 * turn}
        said.append({"role": "assistant", "content": "It is on its way.", "usage": usage, "created_at": at})
    return _lines(folder / f"answers-{name}.jsonl", [{"id": f"kept-{name}", "model": "gpt-4o", "messages": said}])


def old_usage(folder: Path, name: str) -> Path:
    """A day of OpenAI's usage as its console saves it."""
    day = _day()
    row = {
        "start_time": day, "end_time": day + 86_400, "project_id": f"proj_{name}", "num_model_requests": 10,
        "model": "gpt-4o", "batch": "False", "input_tokens": 10_000, "output_tokens": 900, "input_cached_tokens": 400,
    }  # fmt: skip
    return table(folder / f"usage-{name}.csv", [row])


def old_costs(folder: Path, name: str) -> Path:
    """A day of Anthropic's costs as its API answers."""
    since = datetime.fromtimestamp(_day(), UTC)
    result = {"amount": "12.34", "currency": "USD", "workspace_id": f"ws_{name}", "model": MODEL}
    bucket = {"starting_at": _stamp(since), "ending_at": _stamp(since + timedelta(days=1)), "results": [result]}
    path = folder / f"costs-{name}.json"
    path.write_text(json.dumps({"data": [bucket], "has_more": False, "next_page": None}))
    return path


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as a console does."""
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _lines(path: Path, values: list[dict[str, Any]]) -> Path:
    # What is there already stays as it is: a file that is asked for again has not changed.
    if not path.exists():
        path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def _day() -> int:
    return int((datetime.now(UTC) - _BEFORE).replace(hour=0, minute=0, second=0, microsecond=0).timestamp())


def _stamp(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def prices(folder: Path, listed: Mapping[str, Sequence[tuple[str, float, float, float]]], name: str) -> Path:
    """A short list as genai-prices publishes its own: of each vendor models, with input, output and cache reads."""
    content = [
        {
            "id": vendor, "name": vendor, "api_pattern": vendor,
            "models": [
                {
                    "id": model, "match": {"equals": model},
                    "prices": {"input_mtok": into, "output_mtok": out, "cache_read_mtok": read},
                }
                for model, into, out, read in models
            ],
        }
        for vendor, models in listed.items()
    ]  # fmt: skip
    path = folder / name
    path.write_text(json.dumps(content))
    return path
