"""`bursar prices`: what a model costs, and how sure that is."""

from __future__ import annotations

from decimal import Decimal
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bursar.cli.console import fail, output, safe, text_table
from bursar.cli.times import read_day

if TYPE_CHECKING:
    from bursar.pricing.rates import RateCard, Rates

_EPILOG = "Example: bursar prices claude-sonnet-5-5. Exit codes: 0 fine, 1 no price is known, 2 usage."
_KINDS = ("input", "cache_read", "cache_write_5m", "cache_write_30m", "cache_write_1h", "cache_write_12h", "output")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("prices", epilog=_EPILOG)(prices_command)


def prices_command(
    model: Annotated[str, typer.Argument(help="A model's name, as in requests.")],
    provider: Annotated[str | None, typer.Option(help="openai, anthropic, aws.bedrock, ...")] = None,
    day: Annotated[
        str | None, typer.Option(help="The day whose prices hold (YYYY-MM-DD); today's if not given.")
    ] = None,
    tier: Annotated[str | None, typer.Option(help="A service tier: flex, priority, batch.")] = None,
    json: Annotated[bool, typer.Option("--json", help="The rates as one JSON object.")] = False,
) -> None:
    """Show a model's rates in dollars per million tokens."""
    from bursar._charge import context_of
    from bursar._clock import CLOCK
    from bursar.pricing.rates import PriceList, find_provider

    found = provider or find_provider(model)
    when = read_day(day) or CLOCK.today()
    card = PriceList().card(found, model, context=context_of(tier, None), day=when) if found else None
    if card is None:
        fail(f"no price is known for {safe(model)}{_suggestion(model)}")
    if json:
        import orjson

        output(orjson.dumps(_plain(card)).decode())
        return
    _show(card)


def _show(card: RateCard) -> None:
    tiers = [("", card.base), *((f"above {above:,}", rates) for above, rates in card.tiers)]
    names = ["$ per million tokens", *(f"in {name}".strip() if name else "every call" for name, _ in tiers)]
    if len(tiers) > 1:
        names[1] = f"up to {card.tiers[0][0]:,} in"
        names[2:] = [f"{name} in" for name, _ in tiers[1:]]
    rows = [
        [kind.replace("_", " ") + (" (assumed)" if kind in card.assumed else "")]
        + [f"{_per_million(getattr(rates, kind)):f}" for _, rates in tiers]
        for kind in _KINDS
    ]
    output(f"{card.provider} {card.model} · {card.status.replace('_', ' ')} · {card.version}")
    text_table(names, rows)
    if card.web_search_nusd is not None:
        output(f"web search: ${Decimal(card.web_search_nusd).scaleb(-9).normalize():f} each")


def _plain(card: RateCard) -> dict[str, Any]:
    def rates_of(rates: Rates) -> dict[str, str]:
        return {kind: f"{_per_million(getattr(rates, kind)):f}" for kind in _KINDS}

    return {
        "provider": card.provider,
        "model": card.model,
        "usd_per_million_tokens": rates_of(card.base),
        "tiers": [{"above_input_tokens": above, **rates_of(rates)} for above, rates in card.tiers],
        "usd_per_web_search": None if card.web_search_nusd is None else f"{Decimal(card.web_search_nusd).scaleb(-9):f}",
        "context_window": card.max_input_tokens,
        "cost_status": card.status.value,
        "assumed": list(card.assumed),
        "price_version": card.version,
    }


def _per_million(pico: int) -> Decimal:
    amount = Decimal(pico).scaleb(-6).normalize()
    cents = amount.quantize(Decimal("0.01"))
    return cents if cents == amount else amount


def _suggestion(model: str) -> str:
    from bursar.pricing.rates import known_models

    near = get_close_matches(model, sorted({name for _, name in known_models()}), n=3, cutoff=0.6)
    return f"; near it: {', '.join(near)}" if near else "; name its provider with --provider"
