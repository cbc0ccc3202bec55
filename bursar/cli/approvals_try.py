"""`bursar approvals test`: which gate of the file would ask or deny, and why. Nothing is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bursar.cli.console import output, safe

if TYPE_CHECKING:
    from bursar.guards.gate_rules import Rule

_EPILOG = (
    "Examples: bursar approvals test --tool wire_money --usd 0.10; bursar approvals test --model claude-opus-4-5 "
    "--usd 0.40. Exit codes: 0 nobody would be asked, 1 a gate asks or denies, 2 usage."
)


def register(group: typer.Typer) -> None:
    """Add the command to its group."""
    group.command("test", epilog=_EPILOG)(try_command)


def try_command(
    tool: Annotated[str | None, typer.Option(help="The name of a tool.")] = None,
    model: Annotated[str | None, typer.Option(help="The name of a model.")] = None,
    usd: Annotated[
        str | None, typer.Option(help="What it probably costs, in dollars; else its price is unknown.")
    ] = None,
    at_most: Annotated[str | None, typer.Option(help="What it can cost at most; else as --usd.")] = None,
    left: Annotated[str | None, typer.Option(help="What is left of the tightest limit.")] = None,
    effect: Annotated[str | None, typer.Option(help="What the tool does; else what bursar.toml says.")] = None,
    args: Annotated[str | None, typer.Option(help="The tool's arguments, as JSON.")] = None,
) -> None:
    """Say which gate of bursar.toml would ask about a call or deny it, and why."""
    from bursar.flow.gates import rules_of_file
    from bursar.guards.gate_rules import Subject, judge
    from bursar.settings.config import read_settings
    from bursar.words.errors import ConfigError
    from bursar.words.money import parse_usd
    from bursar.words.tools import rule_for

    if (tool is None) == (model is None):
        raise ConfigError("name one: --tool NAME or --model NAME")
    settings = read_settings({})
    rules = rules_of_file(settings)
    likely = None if usd is None else parse_usd(usd, "--usd")
    if tool is not None:
        known = rule_for(settings.tools, tool)
        likely, effect = known.nusd if likely is None else likely, effect or known.effect
    bound = likely if at_most is None else parse_usd(at_most, "--at-most")
    room = None if left is None else parse_usd(left, "--left")
    kind, name = ("tool", tool) if tool is not None else ("model", model)
    top = model is not None and any(rule.model == "top" and not rule.top for rule in rules) and _is_top(model, settings)
    subject = Subject(kind, str(name), likely, bound, room, effect, _object(args), top)
    rulings = judge(rules, subject)
    for ruling in rulings:
        output(f"{ruling.action:5} {safe(ruling.rule.text, 200)}")
        output(f"      at {safe(ruling.rule.origin, 200)}, because {safe(ruling.why, 300)}; asked: {_who(ruling.rule)}")
    if not rulings:
        output(f"go    none of {len(rules)} gates in {settings.config or 'bursar.toml'} asks about it")
    raise typer.Exit(1 if rulings else 0)


def _who(rule: Rule) -> str:
    if rule.deny or not rule.approvers:
        return "nobody" if rule.deny else "whoever another gate asks, else the terminal"
    return ", then ".join(str(step.who) for step in rule.approvers)


def _object(text: str | None) -> dict[str, Any] | None:
    from bursar.cli.objects import read_object

    return None if text is None else read_object(text, "--args")


def _is_top(model: str, settings: Any) -> bool:
    from bursar.ledger_file import default_ledger_path
    from bursar.pricing.rank import is_top
    from bursar.pricing.rates import find_provider
    from bursar.pricing.shelf import price_list
    from bursar.words.clock import CLOCK

    prices = price_list(settings.ledger or default_ledger_path(), settings)
    return is_top(prices, find_provider(model) or "", model, CLOCK.today())
