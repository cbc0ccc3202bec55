"""`bursar whatif`: the tokens of the last days at other prices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bursar.cli.console import fail, output, progress, safe, text_table
from bursar.cli.ledger_option import LedgerOption, ledger_path
from bursar.cli.times import read_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bursar.pricing.rates import PriceList, RateCard
    from bursar.reports.whatif import Change, Line
    from bursar.words.rows import Used

_EPILOG = (
    "Examples: bursar whatif --model claude-haiku-5-5 --workflow triage; bursar whatif --tier batch; "
    "bursar whatif --cached 0.8; bursar whatif --prices negotiated.toml. "
    "Exit codes: 0 fine, 1 nothing to price, 2 usage."
)
_SHOWN: Final = 15


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("whatif", epilog=_EPILOG)(whatif_command)


def whatif_command(
    model: Annotated[str | None, typer.Option(help="Another model for every call.")] = None,
    tier: Annotated[str | None, typer.Option(help="batch, flex, priority, fast or standard.")] = None,
    cached: Annotated[
        float | None, typer.Option(help="The share of input that is read from the cache.", min=0, max=1)
    ] = None,
    prices: Annotated[Path | None, typer.Option(help="A file with [[price]], as in bursar.toml.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Only this workflow.")] = None,
    since: Annotated[str, typer.Option(help="7d, 24h, or a day: 2026-11-01.")] = "7d",
    ledger: LedgerOption = None,
    json: Annotated[bool, typer.Option("--json", help="All lines as one JSON object.")] = False,
) -> None:
    """Price the ledger's own tokens anew, at today's prices: another model, tier, share of cache, or price file.

    No model is called. Without any of these: today's list prices for what was called.
    """
    from bursar.reports.whatif import Change, lines
    from bursar.settings.prices import TIERS
    from bursar.tracing.used import UsedReader

    if tier not in (None, "standard", *TIERS):
        raise typer.BadParameter(f"--tier {tier!r} is none of standard, {', '.join(TIERS)}")
    path = ledger_path(ledger)
    change = Change(model, tier, cached, str(prices) if prices else None)
    pricer = _Pricer(_prices(path, prices), change)
    with UsedReader(path) as reader:
        calls = progress(reader.used(read_time(since) or 0, workflow), "calls")
        found, total = lines(_priced(calls, pricer))
    if not total.calls:
        fail(f"{path} has no call{f' of {safe(workflow)}' if workflow else ''} since {since} that used tokens")
    if json:
        _show_json(found, total, change)
    else:
        _show(found, total, change)


class _Pricer:
    """Prices an attempt as it would be."""

    def __init__(self, prices: PriceList, change: Change) -> None:
        from bursar.words.clock import CLOCK

        self._prices, self._change, self._day = prices, change, CLOCK.today()
        self._cards: dict[tuple[Any, ...], RateCard | None] = {}

    def would(self, used: Used) -> int | None:
        """Nano-dollars, None where there is no price."""
        from bursar.pricing.price import price
        from bursar.reports.whatif import cached

        key = used.provider, used.model, used.tier, used.speed, used.region
        if key not in self._cards:
            self._cards[key] = self._card(used)
        card = self._cards[key]
        if used.calls > 1 and card is not None:
            # A sum of many calls is no prompt that is longer than a tier.
            from dataclasses import replace

            card = replace(card, tiers=())
        return price(cached(used.usage, self._change.cached), card).nusd

    def _card(self, used: Used) -> RateCard | None:
        from bursar.flow.charge import context_of, place_of
        from bursar.pricing.rates import find_provider

        model, tier = self._change.model or used.model, self._change.tier or used.tier
        provider = used.provider if self._change.model is None else find_provider(model) or used.provider
        # Another tier is not as fast as the one that was asked for.
        speed = used.speed if self._change.tier is None else None
        context = context_of(tier, speed, place_of(provider, used.region if provider == used.provider else None))
        return self._prices.card(provider, model, context=context, day=self._day)


def _prices(ledger: Path, named: Path | None) -> PriceList:
    from bursar.pricing.rates import PriceList
    from bursar.pricing.shelf import price_list
    from bursar.settings.config import read_settings
    from bursar.settings.file import File
    from bursar.settings.toml import read_prices

    if named is None:
        return price_list(ledger, read_settings({}))
    return PriceList(home=ledger.parent, set_prices=read_prices(File(named)))


def _priced(calls: Iterator[Used], pricer: _Pricer) -> Iterator[tuple[Used, int | None]]:
    for used in calls:
        yield used, pricer.would(used)


def _show(found: list[Line], total: Line, change: Change) -> None:
    from bursar.reports.whatif import unknowns
    from bursar.words.money import show_change, show_usd

    def row(line: Line) -> list[str]:
        if line.unpriced == line.calls:
            # Nothing of it could be added up: that is not nothing.
            return [safe(line.workflow, 40), f"{line.calls:,}", "unknown", "unknown", "", ""]
        share = f"{line.nusd / line.was_nusd:+.0%}" if line.was_nusd else ""
        figures = [show_usd(line.was_nusd), show_usd(line.would_nusd), show_change(line.nusd), share]
        return [safe(line.workflow, 40), f"{line.calls:,}", *figures]

    output(f"the same tokens {_words(change)}, at today's prices; no model was called")
    columns = ["workflow", "calls", "was", "would be", "change", ""]
    text_table(columns, [row(line) for line in [*found[:_SHOWN], total]], total=True)
    if len(found) > _SHOWN:
        output(f"and {len(found) - _SHOWN:,} more workflows: --json has all")
    for sentence in unknowns(change, total):
        output(f"not known: {safe(sentence, 300)}")


def _words(change: Change) -> str:
    words = [
        f"with {safe(change.model, 60)}" if change.model else "",
        f"as {change.tier}" if change.tier else "",
        f"with {change.cached:.0%} of input from the cache" if change.cached is not None else "",
        f"with the prices of {safe(change.prices, 60)}" if change.prices else "",
    ]
    return " ".join(word for word in words if word) or "as they were"


def _show_json(found: list[Line], total: Line, change: Change) -> None:
    import orjson

    from bursar.reports.whatif import unknowns

    plain = {
        "change": change._asdict(),
        "lines": [line._asdict() for line in found],
        "total": total._asdict(),
        "not_known": unknowns(change, total),
    }
    output(orjson.dumps(plain).decode())
