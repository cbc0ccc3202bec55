"""`bursar prices`: what a model costs and how sure that is; prices of your own, newer lists, models without a price."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from bursar.cli.console import fail, output, safe, text_table
from bursar.cli.ledger_option import LedgerOption, ledger_path
from bursar.cli.times import read_day, read_time

if TYPE_CHECKING:
    from bursar.pricing.rates import PriceList, RateCard, Rates

_CODES = "Exit codes: 0 fine, 1 no price is known or nothing to do, 2 usage."
_KINDS = (
    "input", "cache_read", "cache_write_5m", "cache_write_30m", "cache_write_1h", "cache_write_12h", "output",
)  # fmt: skip
_AUDIO = ("audio_input", "audio_cache_read", "audio_output")
_RATE = "Dollars per million tokens."


class _ModelOrCommand(TyperGroup):
    """A group whose first word may be a model: `bursar prices gpt-4o` is `bursar prices show gpt-4o`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args != ["--help"]:
            args = ["show", *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


prices = typer.Typer(
    cls=_ModelOrCommand,
    help="Show what a model costs (bursar prices MODEL); set prices of your own, fetch newer ones, find what has none.",
    epilog="Example: bursar prices claude-sonnet-5-5. " + _CODES,
    rich_markup_mode=None,
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(prices, name="prices")


@prices.command("show", epilog="Example: bursar prices claude-sonnet-5-5. " + _CODES)
def show_command(
    model: Annotated[str, typer.Argument(help="A model's name, as in requests.")],
    provider: Annotated[str | None, typer.Option(help="openai, anthropic, aws.bedrock, ...")] = None,
    day: Annotated[
        str | None, typer.Option(help="The day whose prices hold (YYYY-MM-DD); today's if not given.")
    ] = None,
    tier: Annotated[str | None, typer.Option(help="A service tier: flex, priority, batch.")] = None,
    speed: Annotated[str | None, typer.Option(help="Anthropic's fast mode: fast.")] = None,
    region: Annotated[str | None, typer.Option(help="Where it is processed: us, eu, global, us-east5, ...")] = None,
    ledger: LedgerOption = None,
    json: Annotated[bool, typer.Option("--json", help="The rates as one JSON object.")] = False,
) -> None:
    """Show a model's rates in dollars per million tokens."""
    from bursar.flow.charge import context_of
    from bursar.words.clock import CLOCK

    when = read_day(day) or CLOCK.today()
    card = _find(_list(ledger), model, provider, context_of(tier, speed, region), when)
    if card is None:
        fail(f"no price is known for {safe(model)}{_suggestion(model)}")
    if json:
        import orjson

        output(orjson.dumps(_plain(card)).decode())
        return
    _show(card)


@prices.command("set", epilog="Example: bursar prices set our-model --input 2 --output 10 --from 2026-12-01. " + _CODES)
def set_command(
    model: Annotated[str, typer.Argument(help="A model's name, as in requests; * with a discount is every model.")],
    provider: Annotated[str | None, typer.Option(help="Of this provider alone.")] = None,
    tier: Annotated[str | None, typer.Option(help="For this tier alone: batch, flex, priority, fast, scale.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="The first day (YYYY-MM-DD).")] = None,
    until: Annotated[str | None, typer.Option(help="The last day.")] = None,
    input_rate: Annotated[str | None, typer.Option("--input", help=_RATE)] = None,
    output_rate: Annotated[str | None, typer.Option("--output", help=_RATE)] = None,
    cache_read: Annotated[str | None, typer.Option(help=_RATE)] = None,
    cache_write_5m: Annotated[str | None, typer.Option(help=_RATE)] = None,
    cache_write_30m: Annotated[str | None, typer.Option(help=_RATE)] = None,
    cache_write_1h: Annotated[str | None, typer.Option(help=_RATE)] = None,
    cache_write_12h: Annotated[str | None, typer.Option(help=_RATE)] = None,
    audio_input: Annotated[str | None, typer.Option(help=_RATE)] = None,
    audio_output: Annotated[str | None, typer.Option(help=_RATE)] = None,
    web_search: Annotated[str | None, typer.Option(help="Dollars a search.")] = None,
    discount: Annotated[str | None, typer.Option(help='Off the list: "12 %".')] = None,
    factor: Annotated[str | None, typer.Option(help='Times the list: "0.88".')] = None,
    ledger: LedgerOption = None,
) -> None:
    """Set a price, into prices.toml beside the ledger; processes that start from now on use it."""
    from bursar.pricing.shelf import add_price
    from bursar.words.clock import CLOCK

    given = {
        "model": model, "provider": provider, "tier": tier, "from": since, "until": until, "input": input_rate,
        "output": output_rate, "cache_read": cache_read, "cache_write_5m": cache_write_5m,
        "cache_write_30m": cache_write_30m, "cache_write_1h": cache_write_1h, "cache_write_12h": cache_write_12h,
        "audio_input": audio_input, "audio_output": audio_output, "web_search": web_search, "discount": discount,
        "factor": factor,
    }  # fmt: skip
    path, spec = add_price(ledger_path(ledger), {name: value for name, value in given.items() if value is not None})
    output(f"{safe(spec.origin)} in {safe(str(path.parent), 200)}: set; running processes go on as they are")
    day = max(CLOCK.today(), spec.since or CLOCK.today())
    card = _find(_list(ledger), model, provider, _context(tier), day)
    if card is not None:
        _show(card)
    elif model != "*":
        fail(f"and still no price is known for {safe(model)}: it needs --input and --output, or the provider's name")


@prices.command("update", epilog="Example: bursar prices update data.json. " + _CODES)
def update_command(
    source: Annotated[
        str | None, typer.Argument(help="A file or an address; where genai-prices publishes its data if not given.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Go back to the prices before the last update.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also where a price moved by more than ten times.")] = False,
    ledger: LedgerOption = None,
) -> None:
    """Fetch newer list prices, check them, and keep them beside the ledger; nothing fetches them by itself."""
    from bursar.pricing.data import check, fetch, keep, kept, load, packaged
    from bursar.pricing.data import undo as take_back
    from bursar.words.clock import CLOCK

    home = ledger_path(ledger).parent
    if undo:
        gone, now = take_back(home)
        output(f"{gone.name} is gone; in force: {packaged() if now is None else now.name}")
        return
    if source is None:
        from genai_prices.update_prices import DEFAULT_UPDATE_URL

        source = DEFAULT_UPDATE_URL
    providers = fetch(source)
    changes = check(providers, source, load(kept(home)), CLOCK.today(), force=force)
    copy = keep(home, providers, source, datetime.now(UTC))
    output(f"{copy.name} is in force for processes that start from now on")
    if changes:
        # What moved is of more interest than what came or went.
        changes.sort(key=lambda each: (each.after is None, each.before is None))
        text_table(
            ("anthropic, openai", "kind", "$ before", "$ now"),
            [(safe(each.model), each.kind, _dollars(each.before), _dollars(each.after)) for each in changes[:50]],
        )
    output(f"{len(changes)} rates differ; `bursar prices update --undo` goes back")


@prices.command("unpriced", epilog="Example: bursar prices unpriced --since 7d. " + _CODES)
def unpriced_command(
    since: Annotated[str, typer.Option(help="7d, 24h, or a day: 2026-11-01.")] = "30d",
    ledger: LedgerOption = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
) -> None:
    """List models that were called and have no price, and the line that sets each."""
    from bursar.tracing.queries import Reader

    with Reader(ledger_path(ledger)) as reader:
        rows = reader.unpriced(read_time(since) or 0)
    if json:
        import orjson

        output(orjson.dumps([row._asdict() for row in rows]).decode())
        return
    if not rows:
        output(f"every call since {safe(since)} has a price")
        return
    text_table(
        ("provider", "model", "answered as", "calls", "in", "out"),
        [
            (safe(row.provider), safe(row.request_model), safe(row.response_model or ""), f"{row.calls:,}",
             f"{row.input_tokens:,}", f"{row.output_tokens:,}")
            for row in rows
        ],
    )  # fmt: skip
    for row in rows:
        output(_setting(row.provider, row.request_model))


def _setting(provider: str | None, model: str | None) -> str:
    from shlex import quote

    of = f" --provider {quote(safe(provider))}" if provider else ""
    return f"bursar prices set {quote(safe(model, 200))}{of} --input DOLLARS --output DOLLARS"


def _list(ledger: Any) -> PriceList:
    from bursar.pricing.shelf import price_list
    from bursar.settings.config import read_settings

    return price_list(ledger_path(ledger), read_settings({}))


def _context(tier: str | None) -> Any:
    from bursar.flow.charge import context_of

    return context_of(tier, None)


def _find(listed: PriceList, model: str, provider: str | None, context: Any, day: Any) -> RateCard | None:
    from bursar.pricing.rates import find_provider

    # A model that no list knows may have been set for a provider.
    vendors = [provider] if provider else [find_provider(model) or "openai", "openai", "anthropic"]
    found = (listed.card(vendor, model, context=context, day=day) for vendor in vendors)
    return next((card for card in found if card is not None), None)


def _dollars(amount: Decimal | None) -> str:
    return "none" if amount is None else f"{amount.normalize():f}"


def _show(card: RateCard) -> None:
    tiers = [("", card.base), *((f"above {above:,}", rates) for above, rates in card.tiers)]
    names = ["$ per million tokens", *(f"in {name}".strip() if name else "every call" for name, _ in tiers)]
    if len(tiers) > 1:
        names[1] = f"up to {card.tiers[0][0]:,} in"
        names[2:] = [f"{name} in" for name, _ in tiers[1:]]
    rows = [
        [kind.replace("_", " ") + (" (assumed)" if kind in card.assumed else "")]
        + [f"{_per_million(getattr(rates, kind)):f}" for _, rates in tiers]
        for kind in (*_KINDS, *(_AUDIO if "audio_input" not in card.missing else ()))
    ]
    output(f"{card.provider} {card.model} · {card.status.replace('_', ' ')} · {card.version}")
    text_table(names, rows)
    if card.web_search_nusd is not None:
        output(f"web search: ${Decimal(card.web_search_nusd).scaleb(-9).normalize():f} each")
    if card.file_search_nusd is not None:
        output(f"file search: ${Decimal(card.file_search_nusd).scaleb(-9).normalize():f} each")


def _plain(card: RateCard) -> dict[str, Any]:
    def rates_of(rates: Rates) -> dict[str, str]:
        return {kind: f"{_per_million(getattr(rates, kind)):f}" for kind in (*_KINDS, *_AUDIO)}

    return {
        "provider": card.provider,
        "model": card.model,
        "usd_per_million_tokens": rates_of(card.base),
        "tiers": [{"above_input_tokens": above, **rates_of(rates)} for above, rates in card.tiers],
        "usd_per_web_search": None if card.web_search_nusd is None else f"{Decimal(card.web_search_nusd).scaleb(-9):f}",
        "usd_per_file_search": None
        if card.file_search_nusd is None
        else f"{Decimal(card.file_search_nusd).scaleb(-9):f}",
        "context_window": card.max_input_tokens,
        "cost_status": card.status.value,
        "assumed": list(card.assumed),
        "missing": list(card.missing),
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
