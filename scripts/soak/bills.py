"""The provider's bill as the vendors export it, and `bursar reconcile` on it when all is over.

Twice for each vendor, so that each of the four formats is read: tokens alone, at list prices; and tokens with dollars.
What the ledger does not have are calls of workers that were killed: so much of coverage may be missing, and no more.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.words.money import NANO_PER_USD, show_usd
from scripts.soak.commands import Command
from scripts.soak.papers import table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bursar.testing import Charge, Provider

_BATCH: Final = "batch"
_ROUNDING: Final = 0.01
"""Per cent: a price list rounds once a row, the provider once a call."""


class Use(NamedTuple):
    """What all calls of one model in one way came to."""

    model: str
    way: str
    calls: int
    fresh: int
    cached: int
    written_5m: int
    written_1h: int
    output: int
    nusd: int

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.fresh + self.cached + self.written_5m + self.written_1h + self.output


class Exports:
    """Both vendors' exports of one day, in a folder."""

    def __init__(self, served: Provider, folder: Path, day: datetime) -> None:
        self.folder, self.since = folder, day.replace(hour=0, minute=0, second=0, microsecond=0)
        self.until = self.since + timedelta(days=1)
        batches = {request.number for request in served.requests if _BATCH in request.path}
        sums: dict[str, dict[tuple[str, str], Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        for charge in served.charges:
            way = _BATCH if charge.number in batches else "embeddings" if charge.api == "embeddings" else "standard"
            vendor = "anthropic" if charge.api == "messages" else "openai"
            sums[vendor][charge.model, way].update(_counts(charge))
        self.uses = {
            vendor: [Use(*key, *(found[name] for name in Use._fields[2:])) for key, found in each.items()]
            for vendor, each in sums.items()
        }

    def files(self) -> list[tuple[str, list[Path]]]:
        """What a person would have downloaded: a vendor, and its files."""
        found: list[tuple[str, list[Path]]] = []
        if uses := self.uses.get("openai"):
            found.append(("openai", [self._openai_csv(uses)]))
            found.append(("openai", [self._openai_pages(uses), self._openai_costs_csv(uses)]))
            found.append(("openai", [self._openai_csv(uses), self._openai_costs(uses)]))
        if uses := self.uses.get("anthropic"):
            found.append(("anthropic", [self._anthropic_pages(uses)]))
            found.append(("anthropic", [self._anthropic_csv(uses), self._anthropic_costs(uses)]))
            found.append(("anthropic", [self._anthropic_pages(uses), self._anthropic_costs_csv(uses)]))
        return found

    def _span(self) -> dict[str, int]:
        return {"start_time": int(self.since.timestamp()), "end_time": int(self.until.timestamp())}

    def _openai_csv(self, uses: Sequence[Use]) -> Path:
        rows = [self._span() | _openai(use) | {"batch": str(use.way == _BATCH)} for use in uses]
        return table(self.folder / "openai-usage.csv", rows)

    def _openai_pages(self, uses: Sequence[Use]) -> Path:
        results = [
            _openai(use) | {"object": f"organization.usage.{_kind(use)}.result", "batch": use.way == _BATCH}
            for use in uses
        ]
        return self._pages("openai-usage.json", self._span() | {"object": "bucket", "results": results})

    def _openai_costs(self, uses: Sequence[Use]) -> Path:
        results = [
            {
                "object": "organization.costs.result", "line_item": f"{use.model}, {use.way}", "project_id": None,
                "amount": {"value": str(Decimal(use.nusd) / NANO_PER_USD), "currency": "usd"},
            }
            for use in uses
        ]  # fmt: skip
        return self._pages("openai-costs.json", self._span() | {"object": "bucket", "results": results})

    def _openai_costs_csv(self, uses: Sequence[Use]) -> Path:
        rows = [
            self._span() | {
                "amount_value": f"{Decimal(use.nusd) / NANO_PER_USD:f}", "amount_currency": "usd",
                "line_item": f"{use.model}, {use.way}", "project_id": "proj_a",
            }
            for use in uses
        ]  # fmt: skip
        return table(self.folder / "openai-costs.csv", rows)

    def _anthropic_pages(self, uses: Sequence[Use]) -> Path:
        results = [
            {
                "uncached_input_tokens": use.fresh, "cache_read_input_tokens": use.cached, "output_tokens": use.output,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": use.written_5m, "ephemeral_1h_input_tokens": use.written_1h,
                },
                "server_tool_use": {"web_search_requests": 0}, "model": use.model, "service_tier": use.way,
                "context_window": "0-200k", "api_key_id": None, "workspace_id": None,
            }
            for use in uses
        ]  # fmt: skip
        return self._pages("anthropic-usage.json", self._stamps() | {"results": results})

    def _anthropic_csv(self, uses: Sequence[Use]) -> Path:
        rows = [
            {
                "usage_date_utc": self.since.date().isoformat(), "model_version": use.model, "api_key": "prod",
                "workspace": "Default", "usage_type": use.way, "context_window": "≤ 200k",
                "usage_input_tokens_no_cache": use.fresh, "usage_input_tokens_cache_write_5m": use.written_5m,
                "usage_input_tokens_cache_write_1h": use.written_1h, "usage_input_tokens_cache_read": use.cached,
                "usage_output_tokens": use.output, "web_search_count": 0,
            }
            for use in uses
        ]  # fmt: skip
        return table(self.folder / "anthropic-usage.csv", rows)

    def _anthropic_costs(self, uses: Sequence[Use]) -> Path:
        results = [
            {
                "amount": f"{Decimal(use.nusd) * 100 / NANO_PER_USD:f}", "currency": "USD", "model": use.model,
                "cost_type": "tokens", "token_type": None, "service_tier": use.way, "workspace_id": None,
            }
            for use in uses
        ]  # fmt: skip
        return self._pages("anthropic-costs.json", self._stamps() | {"results": results})

    def _anthropic_costs_csv(self, uses: Sequence[Use]) -> Path:
        rows = [
            {
                "usage_date_utc": self.since.date().isoformat(), "model": use.model, "usage_type": use.way,
                "cost_usd": f"{Decimal(use.nusd) / NANO_PER_USD:f}", "workspace": "Default",
            }
            for use in uses
        ]  # fmt: skip
        return table(self.folder / "anthropic-costs.csv", rows)

    def _stamps(self) -> dict[str, str]:
        return {"starting_at": self.since.isoformat(), "ending_at": self.until.isoformat()}

    def _pages(self, name: str, bucket: dict[str, Any]) -> Path:
        path = self.folder / name
        path.write_text(json.dumps({"object": "page", "data": [bucket], "has_more": False, "next_page": None}))
        return path


class Reconciled(NamedTuple):
    """One run of the command: what it said, and what of it is wrong."""

    line: str
    faults: list[str]


def reconcile(served: Provider, folder: Path, lost: Lost, run: Callable[[Command], str]) -> list[Reconciled]:
    """Hold every export against the ledger; `lost` is what dead workers had called, of which there are no rows."""
    exports = Exports(served, folder, datetime.now(UTC))
    found = []
    for vendor, files in exports.files():
        words = ("reconcile", *map(str, files), "--tolerance", _explained(exports.uses[vendor], lost), "--json")
        text = run(Command(words, "text"))
        name = f"{vendor} {' and '.join(file.name for file in files)}"
        if not text:
            found.append(Reconciled(f"{name}: said nothing", [f"reconcile {name} said nothing"]))
            continue
        found.append(_judged(name, json.loads(text), exports.uses[vendor], lost))
    return found


def _explained(uses: Sequence[Use], lost: Lost) -> str:
    """The share of the bill in per cent that killed workers explain: beyond it the command is to leave with 1."""
    billed = max(1, sum(use.nusd for use in uses))
    return f"{min(100.0, 100 * lost.nusd / billed + _ROUNDING):.4f}"


class Lost(NamedTuple):
    """What the provider billed for and no row tells of."""

    tokens: int
    nusd: int


def _judged(name: str, said: dict[str, Any], uses: Sequence[Use], lost: Lost) -> Reconciled:
    billed, tokens = sum(use.nusd for use in uses), sum(use.tokens for use in uses)
    covered, parts = said["covered"], said["parts"]
    faults = []
    # A price list rounds once a row, the provider once a call.
    if abs(said["bill_nusd"] - billed) > sum(use.calls for use in uses):
        faults.append(f"reconcile {name} reads a bill of {said['bill_nusd']}, which is {billed}")
    missing = round((1 - covered) * tokens)
    if missing > lost.tokens:
        faults.append(f"reconcile {name} misses {missing} of {tokens} tokens, and killed workers explain {lost.tokens}")
    if abs(parts.get("unexplained", 0)) > lost.nusd:
        faults.append(f"reconcile {name} leaves {parts} unexplained, and killed workers explain {lost.nusd}")
    if sum(parts.values()) != said["bill_nusd"] - said["ledger_nusd"]:
        faults.append(f"reconcile {name}: {parts} do not add up to the difference")
    shown = ", ".join(f"{reason} {show_usd(abs(nusd))}{' over' if nusd < 0 else ''}" for reason, nusd in parts.items())
    return Reconciled(f"{name}: {covered:.2%} of the tokens; {shown or 'no difference'}", faults)


def tokens_of(charge: Charge) -> int:
    """All tokens of a charge."""
    return Use("", "", *_counts(charge).values()).tokens


def _counts(charge: Charge) -> dict[str, int]:
    return {
        "calls": 1, "fresh": charge.input_tokens, "cached": charge.cache_read, "written_5m": charge.cache_write_5m,
        "written_1h": charge.cache_write_1h, "output": charge.output_tokens, "nusd": charge.nusd,
    }  # fmt: skip


def _openai(use: Use) -> dict[str, Any]:
    return {
        "num_model_requests": use.calls, "model": use.model, "input_tokens": use.fresh + use.cached,
        "output_tokens": use.output, "input_cached_tokens": use.cached, "project_id": "proj_a", "api_key_id": "key_1",
    }  # fmt: skip


def _kind(use: Use) -> str:
    return "embeddings" if use.way == "embeddings" else "completions"
