"""What `bursar statusline` does, without the command line's own weight: a coding agent waits for it at every turn."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bursar.importers.tail import Latest
    from bursar.reports.status import Status
    from bursar.settings.config import Settings

_LONGEST: Final = 1 << 20
_PAUSE_S: Final = 20
"""Seconds between two imports of the same transcript."""


def print_line(*, importing: bool) -> None:
    """Read the agent's JSON on standard input and print one line. Never raises: a host must not fail for it."""
    try:
        told = json.loads(sys.stdin.buffer.read(_LONGEST)) if not sys.stdin.isatty() else None
        if not isinstance(told, dict):
            raise ValueError("no JSON object on standard input")  # noqa: TRY004, TRY301 - said below, as all else
        line = _line(told)
    except Exception as error:  # noqa: BLE001 - whatever it is, the agent goes on
        line = f"bursar: no status ({type(error).__name__})"
        told = None
    try:
        print(line, flush=True)  # noqa: T201 - rich and typer would take longer than all the rest
        path = told.get("transcript_path") if told else None
        if importing and isinstance(path, str) and path.endswith(".jsonl"):
            _import_later(Path(path))
    except Exception:  # noqa: BLE001 - as above
        return


def _line(told: dict[str, Any]) -> str:
    from bursar.importers.tail import Latest, latest
    from bursar.reports.status import as_line

    path = told.get("transcript_path")
    seen = Latest()
    if isinstance(path, str):
        try:
            seen = latest(Path(path))
        except OSError:
            # A session that has not begun has none yet.
            seen = Latest()
    from bursar.settings.config import read_settings

    settings = read_settings({})
    return as_line(_status(told, seen, settings)) or "bursar: nothing known of this session yet"


def _status(told: dict[str, Any], seen: Latest, settings: Settings) -> Status:
    from bursar.ledger_file import default_ledger_path
    from bursar.reports.sessions import growth
    from bursar.reports.status import Status, next_turn
    from bursar.words.money import NANO_PER_USD

    ledger = settings.ledger or default_ledger_path()
    model, name = _text(told, "model", "id"), _text(told, "model", "display_name")
    window = _number(told, "context_window", "context_window_size")
    usage = _context(told, seen)
    now_us = time.time_ns() // 1_000
    next_nusd, cold = next_turn(
        seen.turns, _card(ledger, settings, model, now_us), now_us - seen.last_us if seen.last_us else 0
    )
    cost = _number(told, "cost", "total_cost_usd")
    return Status(
        model=_plain(name or model),
        context=usage,
        window=int(window) if window else None,
        growth=growth([turn.input_tokens for turn in seen.turns]) or None,
        next_nusd=next_nusd,
        cold=cold,
        session_nusd=None if cost is None else round(cost * NANO_PER_USD),
        today_nusd=_today(ledger, settings, now_us),
        limit_nusd=_limit(settings),
    )


def _context(told: dict[str, Any], seen: Latest) -> int | None:
    from bursar.clients.usage import anthropic_usage

    window = told.get("context_window")
    current = window.get("current_usage") if isinstance(window, dict) else None
    usage = anthropic_usage(current).usage if isinstance(current, dict) else None
    if usage is None and seen.turns:
        usage = seen.turns[-1]
    return None if usage is None else usage.input_tokens


def _card(ledger: Path, settings: Settings, model: str | None, now_us: int) -> Any:
    from datetime import UTC, datetime

    from bursar.pricing.shelf import price_list

    if model is None:
        return None
    day = datetime.fromtimestamp(now_us / 1_000_000, UTC).date()
    return price_list(ledger, settings).at_hand("anthropic", model, day=day)


def _today(ledger: Path, settings: Settings, now_us: int) -> int | None:
    from zoneinfo import ZoneInfo

    from bursar.words.windows import window_at

    if not ledger.exists():
        return None
    from bursar.tracing.sums import day_nusd

    return day_nusd(ledger, window_at("day", now_us, ZoneInfo(settings.timezone)))


def _limit(settings: Settings) -> int | None:
    limits = (
        dict(limit.limits).get("usd")
        for limit in settings.limits
        if (limit.per, limit.window, limit.of) == ("env", "day", settings.env)
    )
    return next((limit for limit in limits if limit), None)


def _import_later(transcript: Path) -> None:
    import hashlib
    import subprocess

    from bursar.pricing.rates import cache_directory

    mark = hashlib.sha256(os.fsencode(transcript)).hexdigest()[:16]
    stamp = cache_directory() / f"statusline-{mark}"
    try:
        if time.time() - stamp.stat().st_mtime < _PAUSE_S:
            return
    except OSError:
        stamp.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    stamp.touch()
    # On its own: the agent waits for whoever has its pipe open.
    subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-c", "from bursar.cli import main; main()", "import", str(transcript)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _text(told: dict[str, Any], *names: str) -> str | None:
    found = _find(told, names)
    return found if isinstance(found, str) and found else None


def _number(told: dict[str, Any], *names: str) -> float | None:
    found = _find(told, names)
    good = isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found < 10**9
    return found if good else None


def _find(told: dict[str, Any], names: tuple[str, ...]) -> Any:
    found: Any = told
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _plain(text: str | None) -> str | None:
    # What a terminal obeys is left out.
    return None if text is None else "".join(character for character in text if character.isprintable())[:40]
