"""Rows of usage and cost exports as entries: what the providers have counted, by the names that they have for things.

What is asked of an API is grouped as it was asked: a column that is not there is not known, and the names of workflows
come from the one that says most of who spent.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.importers.exports import (
    ANTHROPIC_COSTS,
    ANTHROPIC_USAGE,
    OPENAI_COSTS,
    OPENAI_USAGE,
    count,
    nusd,
    read_export,
    text,
)
from bursar.importers.found import Found
from bursar.importers.priced import Bucket, billed
from bursar.tracing.imports import Entry, tags
from bursar.words.events import Usage
from bursar.words.records import UNATTRIBUTED, Who

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bursar.importers.exports import Row
    from bursar.importers.priced import Pricer
    from bursar.words.records import ModelCall

PROVIDERS: Final = {
    OPENAI_USAGE: "openai",
    OPENAI_COSTS: "openai",
    ANTHROPIC_USAGE: "anthropic",
    ANTHROPIC_COSTS: "anthropic",
}
_PROJECT: Final = ("project_name", "project_id", "workspace", "workspace_id")
_KEY: Final = ("api_key", "api_key_name", "api_key_id")
NAMES: Final = {"project": (*_PROJECT, *_KEY), "key": _KEY, "user": ("user_id", "account_id")}
"""What workflows may be named after, and the columns for it, the first that says something first."""
_BY: Final = (
    *_PROJECT, *_KEY, "user_id", "model", "model_version", "batch", "service_tier", "usage_type", "context_window",
    "inference_geo", "speed", "line_item", "description", "token_type", "cost_type", "object", "api_source",
    "account_id", "service_account_id", "inference_region",
)  # fmt: skip
"""What a row may be grouped by: with its span of time this is what it is."""


class Spent(NamedTuple):
    """What an export says of one span of time. `model` is what was billed, of costs too, without the kind of token."""

    entry: Entry
    until_us: int
    model: str


def read_usage(path: Path, pricer: Pricer, name: str = "project") -> tuple[str, Found, list[Spent]] | None:
    """Read an export: its kind, what was found in it, its spans; None for a file that is none.

    Raises `RecordingError` where it cannot be read, or is of several kinds.
    """
    found = Found(str(path))
    export = read_export(path, found)
    if export is None:
        return None
    make, spans, seen = _MAKE[export.kind], list[Spent](), Counter[str]()
    for row in export.rows:
        try:
            call = make(row, pricer, _who(export.kind, row, name))
        except ValueError as error:
            found.problem(row.line, f"({row.values.get('object', export.kind)}) {error}")
            continue
        if isinstance(call, str):
            found.skipped[call] += 1
            continue
        dims = "\0".join(f"{by}={row.values[by]}" for by in _BY if row.values.get(by) not in (None, ""))
        span = f"{row.since_us}\0{row.until_us}\0{dims}"
        # Two rows that say the same of the same time are two sums, not one twice.
        key, requests = f"{span}\0{seen[span]}", count(row, "num_model_requests") or None
        seen[span] += 1
        found.entries.append(Entry(export.kind, key, call, requests))
        spans.append(Spent(found.entries[-1], row.until_us, _model(row, call)))
    return export.kind, found, spans


def _model(row: Row, call: ModelCall) -> str:
    # "gpt-4o-2024-08-06, input": a line of a bill is a model and a kind of token.
    return text(row, "model", "model_version") or call.request_model.partition(",")[0]


def _who(kind: str, row: Row, name: str) -> Who:
    project, key = text(row, *_PROJECT), text(row, *_KEY)
    workflow = text(row, *NAMES[name]) or UNATTRIBUTED
    return Who(tags(kind, workflow, tenant=project, feature=key), text(row, *NAMES["user"]), None)


def _openai_usage(row: Row, pricer: Pricer, who: Who) -> ModelCall | str:
    kind = str(row.values.get("object") or "organization.usage.completions.result")
    if kind.split(".")[2:3] not in (["completions"], ["embeddings"], ["moderations"]):
        return f"counts no tokens ({kind})"
    into, out = count(row, "input_tokens"), count(row, "output_tokens")
    if not into + out:
        return "nothing was used"
    model = text(row, "model")
    half_day = count(row, "input_cache_write_12h_tokens")
    written = max(count(row, "input_cache_write_tokens"), half_day + count(row, "input_cache_write_30m_tokens"))
    read = count(row, "input_cached_tokens")
    heard = count(row, "input_audio_tokens") + count(row, "input_cached_audio_tokens")
    usage = Usage(
        input_tokens=max(into, read + written),
        output_tokens=out,
        cache_read_tokens=read,
        cache_write_30m_tokens=written - half_day,
        cache_write_12h_tokens=half_day,
        audio_input_tokens=heard,
        audio_output_tokens=count(row, "output_audio_tokens"),
    )
    batch = str(row.values.get("batch")).lower() == "true"
    tier = "batch" if batch else text(row, "service_tier")
    requests = count(row, "num_model_requests") or None
    return pricer.summed(Bucket("openai", model or UNNAMED, row.since_us, usage, requests, tier), who)


def _anthropic_usage(row: Row, pricer: Pricer, who: Who) -> ModelCall | str:
    creation = row.values.get("cache_creation")
    lives: Row = row._replace(values=creation if isinstance(creation, dict) else {})
    tools = row.values.get("server_tool_use")
    used: Row = row._replace(values=tools if isinstance(tools, dict) else {})
    read = count(row, "cache_read_input_tokens") + count(row, "usage_input_tokens_cache_read")
    five = count(lives, "ephemeral_5m_input_tokens") + count(row, "usage_input_tokens_cache_write_5m")
    hour = count(lives, "ephemeral_1h_input_tokens") + count(row, "usage_input_tokens_cache_write_1h")
    fresh = count(row, "uncached_input_tokens") + count(row, "usage_input_tokens_no_cache")
    usage = Usage(
        input_tokens=fresh + read + five + hour,
        output_tokens=count(row, "output_tokens") + count(row, "usage_output_tokens"),
        cache_read_tokens=read,
        cache_write_5m_tokens=five,
        cache_write_1h_tokens=hour,
        web_searches=count(used, "web_search_requests") + count(row, "web_search_count"),
    )
    if not any(usage):
        return "nothing was used"
    above, most = _WINDOWS.get(text(row, "context_window"), (0, None))
    bucket = Bucket(
        "anthropic", text(row, "model", "model_version") or UNNAMED, row.since_us, usage, None,
        text(row, "service_tier", "usage_type"), text(row, "speed"), text(row, "inference_geo"), above, most,
    )  # fmt: skip
    return pricer.summed(bucket, who)


def _openai_costs(row: Row, _: Pricer, who: Who) -> ModelCall | str:
    amount = row.values.get("amount")
    value = amount.get("value") if isinstance(amount, dict) else row.values.get("amount_value")
    currency = amount.get("currency") if isinstance(amount, dict) else row.values.get("amount_currency")
    return _billed("openai", row, value, currency or "usd", text(row, "line_item"), who)


def _anthropic_costs(row: Row, _: Pricer, who: Who) -> ModelCall | str:
    model, kind = text(row, "model"), text(row, "token_type", "cost_type")
    item = " ".join(part for part in (model, kind) if part) or text(row, "description")
    if "cost_usd" in row.values:
        return _billed("anthropic", row, row.values["cost_usd"], "usd", item, who)
    # The API writes cents, with a fraction.
    return _billed("anthropic", row, row.values.get("amount"), row.values.get("currency"), item, who, cents=True)


def _billed(
    provider: str, row: Row, value: Any, currency: Any, item: str | None, who: Who, *, cents: bool = False
) -> ModelCall | str:
    if value is None or value == "":
        return "nothing was billed"
    if str(currency).lower() != "usd":
        raise ValueError(f"is in {str(currency)[:10]!r}; the ledger is in US dollars")
    amount = nusd(value, cents=cents)
    return billed(provider, item or UNNAMED, row.since_us, amount, who) if amount else "nothing was billed"


_WINDOWS: Final[dict[str | None, tuple[int, int | None]]] = {
    "0-200k": (0, 200_000), "≤ 200k": (0, 200_000), "200k-1M": (200_000, None), "> 200k": (200_000, None),
}  # fmt: skip
"""Prompts by their length, as the API and the console write it."""
UNNAMED: Final = "(not in the export)"
"""The model of rows that were not grouped by model: it has no price."""
_MAKE: Final[dict[str, Callable[[Row, Pricer, Who], ModelCall | str]]] = {
    OPENAI_USAGE: _openai_usage,
    OPENAI_COSTS: _openai_costs,
    ANTHROPIC_USAGE: _anthropic_usage,
    ANTHROPIC_COSTS: _anthropic_costs,
}
