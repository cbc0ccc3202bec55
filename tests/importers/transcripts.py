"""Transcripts as Claude Code writes them, made by hand for tests."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
MODEL = "claude-opus-5-5"


def usage(fresh: int, read: int = 0, five: int = 0, hour: int = 0, out: int = 10) -> dict[str, Any]:
    return {
        "input_tokens": fresh,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": five + hour,
        "cache_creation": {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour},
        "output_tokens": out,
        "service_tier": "standard",
    }


@dataclass
class Transcript:
    """Writes the lines of one session."""

    session: str
    began: datetime = START
    lines: list[str] = field(default_factory=list)
    count: int = 0

    def user(self, text: str = "go on", **more: Any) -> None:
        self._line("user", {"role": "user", "content": text}, more)

    def answer(
        self, used: dict[str, Any], *, blocks: int = 1, model: str = MODEL, name: str | None = None, **more: Any
    ) -> str:
        """An answer of so many blocks, one line each; all but the last say that one token was written so far."""
        self.count += 1
        name = name or f"msg_{self.session}_{self.count}"
        for block in range(blocks):
            last = block == blocks - 1
            message = {
                "id": name, "type": "message", "role": "assistant", "model": model,
                "content": [{"type": "tool_use", "id": f"toolu_{name}_{block}", "name": "Bash", "input": {}}],
                "stop_reason": "tool_use" if last else None,
                "usage": used if last else {**used, "output_tokens": 1},
            }  # fmt: skip
            self._line("assistant", message, {"requestId": f"req_{name}", **more})
        return name

    def raw(self, line: str) -> None:
        self.lines.append(line)

    def write(self, folder: Path, name: str | None = None) -> Path:
        path = folder / f"{name or self.session}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(self.lines) + "\n", encoding="utf-8")
        return path

    def _line(self, kind: str, message: dict[str, Any], more: dict[str, Any]) -> None:
        self.began += timedelta(seconds=3)
        value = {
            "parentUuid": None, "isSidechain": False, "userType": "external", "cwd": "/home/ana/shop",
            "sessionId": self.session, "version": "2.3.1", "gitBranch": "main", "type": kind, "message": message,
            "uuid": f"{self.session}-{len(self.lines)}", "timestamp": self.began.isoformat().replace("+00:00", "Z"),
        }  # fmt: skip
        self.lines.append(json.dumps(value | more))
