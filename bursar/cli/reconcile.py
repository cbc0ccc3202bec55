"""`bursar reconcile`: the provider's export beside the ledger."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, TypeVar

import typer

from bursar.cli.console import fail, output, safe, text_table, warn
from bursar.cli.ledger_option import LedgerOption, ledger_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from bursar.importers.usage import Spent
    from bursar.reports.reconcile import Cell, Reconciled, Sums
    from bursar.tracing.booked import Booked

K = TypeVar("K")

_EPILOG = (
    "Examples: bursar reconcile usage.csv; bursar reconcile usage.csv costs.csv --tolerance 2. "
    "Calls that are charged at bounds make the ledger a range. "
    "Exit codes: 0 within it or the tolerance, 1 beyond, or nothing to compare, 2 usage."
)
_SHOWN: Final = 15
_WORDS: Final = {
    "bounds": "less than the bounds of calls that failed, were cut or died: within the range, no finding",
    "unpriced": "calls without a price in the ledger: bursar prices unpriced",
    "outside": "calls that the ledger has not seen: other programs or keys, unwrapped clients",
    "price": "the same tokens at another price: discount, tier, surcharge (bursar prices set)",
    "unexplained": "nothing here explains it",
}


class Bill(NamedTuple):
    """What the files say. `counted`: they have tokens; `own`: the dollars are the provider's, not of a price list.

    keys: the same by API key, where the files name keys; `own_keys` as `own`, of their dollars.
    """

    provider: str
    since_us: int
    until_us: int
    cells: dict[tuple[str, str], Sums]
    counted: bool
    own: bool
    keys: dict[str, Sums]
    own_keys: bool


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("reconcile", epilog=_EPILOG)(reconcile_command)


def reconcile_command(
    files: Annotated[
        list[Path], typer.Argument(help="Usage or cost exports of one provider; of both, tokens and dollars each.")
    ],
    tolerance: Annotated[float, typer.Option(help="Per cent of difference that is no finding.", min=0, max=100)] = 1.0,
    keys_by: Annotated[
        str, typer.Option(help="The tag of calls that says of which API key they are, as the export names it.")
    ] = "key",
    ledger: LedgerOption = None,
    json: Annotated[bool, typer.Option("--json", help="All cells as one JSON object.")] = False,
) -> None:
    """Hold the provider's export against the ledger, by day, model and key: differences, and what explains them.

    Days are those of UTC, as exports have them. Rows that came from an export are no second opinion and left out.
    """
    from bursar.reports.reconcile import reconcile
    from bursar.tracing.booked import BookedReader

    path = ledger_path(ledger)
    bill = _bill(files, path)
    with BookedReader(path) as reader:
        span = bill.provider, bill.since_us, bill.until_us
        booked = {(row.day, row.model): _sums(row) for row in reader.booked(*span)}
        by_key = {("", row.model): _sums(row) for row in reader.booked_by(keys_by, *span)} if bill.keys else {}
    found = reconcile(bill.cells, booked, counted=bill.counted)
    keys = reconcile({("", key): sums for key, sums in bill.keys.items()}, by_key, counted=bill.counted)
    if json:
        _show_json(found, keys, bill)
    else:
        _show(found, bill)
        if bill.keys:
            _show_keys(keys, bill, keys_by)
    if found.exceeds(tolerance / 100):
        raise typer.Exit(1)


def _sums(row: Booked) -> Sums:
    from bursar.reports.reconcile import Sums

    return Sums(row.nusd, row.tokens, row.calls, row.unmeasured_nusd, row.unpriced_tokens)


def _bill(files: list[Path], ledger: Path) -> Bill:
    from bursar.importers.priced import Pricer
    from bursar.importers.usage import PROVIDERS, read_usage
    from bursar.pricing.shelf import price_list
    from bursar.settings.config import read_settings

    pricer = Pricer(price_list(ledger, read_settings({})))
    usages, costs, providers = list[Any](), list[Any](), set[str]()
    for file in files:
        read = read_usage(file, pricer)
        if read is None:
            fail(f"{file} is no usage or cost export of OpenAI or Anthropic")
        kind, found, spans = read
        for problem in found.problems[:5]:
            warn(f"not understood: {safe(str(problem), 400)}")
        providers.add(PROVIDERS[kind])
        (costs if kind.endswith("-costs") else usages).extend(spans)
    if len(providers) > 1:
        raise typer.BadParameter(f"these are exports of {' and '.join(sorted(providers))}: one provider at a time")
    if not usages and not costs:
        fail("the export has nothing in it: nothing was used in its time")
    own_keys = bool(costs) and all(map(_key_of, costs))
    return Bill(
        providers.pop(),
        min(span.entry.call.ts_us for span in [*usages, *costs]),
        max(span.until_us for span in [*usages, *costs]),
        _cells(usages, costs),
        bool(usages),
        bool(costs),
        _keys(usages, costs if own_keys else []),
        own_keys,
    )


def _cells(usages: list[Spent], costs: list[Spent]) -> dict[tuple[str, str], Sums]:
    from bursar.importers.priced import day_of

    return _added(usages, costs, lambda span: (day_of(span.entry.call.ts_us).isoformat(), span.model))


def _key_of(span: Spent) -> str:
    # Importers keep the name of a key as the feature.
    return span.entry.call.who.tags.feature or ""


def _keys(usages: list[Spent], costs: list[Spent]) -> dict[str, Sums]:
    return _added(usages, costs, _key_of) if any(map(_key_of, [*usages, *costs])) else {}


def _added(usages: list[Spent], costs: list[Spent], group: Callable[[Spent], K]) -> dict[K, Sums]:
    from bursar.reports.reconcile import Sums

    sums: dict[K, list[int]] = defaultdict(lambda: [0, 0, 0])
    for spans, own in ((usages, False), (costs, True)):
        for span in spans:
            call = span.entry.call
            cell = sums[group(span)]
            if own or not costs:
                cell[0] += call.cost_nusd or 0
            cell[1] += call.usage.input_tokens + call.usage.output_tokens
            cell[2] += span.entry.requests or 0
    return {key: Sums(nusd, tokens if usages else None, calls or None) for key, (nusd, tokens, calls) in sums.items()}


def _show(found: Reconciled, bill: Bill) -> None:
    from bursar.words.money import show_change, show_usd

    days = found.days()
    at_bounds = found.ledger_least_nusd < found.ledger_nusd
    least = f"{show_usd(found.ledger_least_nusd)} to " if at_bounds else ""
    whose = "billed" if bill.own else "has usage worth"
    output(
        f"{days[0][0]} to {days[-1][0]}: {bill.provider} {whose} {show_usd(found.bill_nusd)}, the ledger has {least}"
        f"{show_usd(found.ledger_nusd)}: {show_change(found.bill_nusd - found.ledger_nusd)}"
    )
    if found.covered is not None:
        output(f"the ledger has {found.covered:.1%} of the tokens")
    for reason, nusd in found.parts:
        output(f"  {show_change(nusd)} {reason}: {_WORDS[reason]}")
    for model in found.moved:
        output(f"  {safe(model, 40)}: differences of its days cancel out; its days may be of another time zone")
    rows = [_row(cell) for cell in found.cells[:_SHOWN] if cell.nusd]
    if rows:
        text_table(_columns("day and model", bill), rows)
    if len(found.cells) > _SHOWN:
        output(f"and {len(found.cells) - _SHOWN:,} more days and models with smaller differences: --json has all")


def _show_keys(keys: Reconciled, bill: Bill, tag: str) -> None:
    """Which of the provider's keys the ledger knows, those with the largest difference first."""
    known = sum(bool(cell.ledger.calls and cell.model) for cell in keys.cells)
    whole = sum(bool(cell.model) for cell in keys.cells)
    prices = " (dollars of keys are list prices)" if bill.own and not bill.own_keys else ""
    output(f"by key: the ledger has calls of {known:,} of {whole:,} keys{prices}")
    if not known:
        output(
            f'  no call says of which key it is: bursar.wrap(client, {tag}="key_1") does; so may another tag, with\n'
            "  --keys-by TAG, if each key has a value of its own there"
        )
    named = [cell._replace(day="", model=cell.model or "(no key)") for cell in keys.cells]
    text_table(_columns("key", bill), [_row(cell) for cell in named[:_SHOWN]])
    if len(named) > _SHOWN:
        output(f"and {len(named) - _SHOWN:,} more keys: --json has all")


def _row(cell: Cell) -> list[str]:
    from bursar.words.money import show_change, show_usd

    reason = max(cell.parts, key=lambda part: abs(part[1]))[0] if cell.parts else ""
    share = f"{(cell.ledger.tokens or 0) / cell.bill.tokens:.0%}" if cell.bill.tokens else ""
    return [
        f"{cell.day} {safe(cell.model, 40)}".strip(),
        show_usd(cell.bill.nusd),
        show_usd(cell.ledger.nusd),
        show_change(cell.nusd),
        share,
        reason,
    ]


def _columns(first: str, bill: Bill) -> list[str]:
    return [first, bill.provider, "ledger", "difference", "tokens", "mostly"]


def _show_json(found: Reconciled, keys: Reconciled, bill: Bill) -> None:
    import orjson

    cells = [
        {
            "day": cell.day,
            "model": cell.model,
            "bill": cell.bill._asdict(),
            "ledger": cell.ledger._asdict(),
            "nusd": cell.nusd,
            "parts": dict(cell.parts),
        }
        for cell in found.cells
    ]
    plain = {
        "provider": bill.provider,
        "billed": bill.own,
        "bill_nusd": found.bill_nusd,
        "ledger_nusd": found.ledger_nusd,
        "ledger_least_nusd": found.ledger_least_nusd,
        "covered": found.covered,
        "parts": dict(found.parts),
        "moved": found.moved,
        "cells": cells,
        "keys": [
            {
                "key": cell.model or None,
                "bill": cell.bill._asdict(),
                "ledger": cell.ledger._asdict(),
                "parts": dict(cell.parts),
            }
            for cell in keys.cells
        ],
    }
    output(orjson.dumps(plain).decode())
