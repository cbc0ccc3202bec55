"""`bursar trace`: one run, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bursar.cli.console import console, output, safe

if TYPE_CHECKING:
    from rich.tree import Tree

    from bursar._rows import CallRow, RunRow, VerdictRow
    from bursar.reports.steps import Operation, RunTree

_EPILOG = "Example: bursar trace last. Exit codes: 0 fine, 1 no such run, 2 usage."


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("trace", epilog=_EPILOG)(trace_command)


def trace_command(
    run: Annotated[str, typer.Argument(help="A run's id, the beginning of one, or: last.")],
    ledger: Annotated[
        Path | None, typer.Option(help="The ledger file (BURSAR_LEDGER).", envvar="BURSAR_LEDGER")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="The tree as one JSON object.")] = False,
) -> None:
    """Show a run as a tree: steps, attempts, waits, costs, and what guards said."""
    from bursar.reports.steps import as_json
    from bursar.tracing.ledger import default_ledger_path

    tree = read_tree(run, ledger or default_ledger_path())
    if json:
        # The fast one stops at 254 levels, which are 126 nested runs.
        from json import dumps

        output(dumps(as_json(tree), separators=(",", ":")))
    else:
        show_tree(tree)


def read_tree(run: str, ledger: Path) -> RunTree:
    """Read a run and all nested in it. Raises `LedgerError` for none, or several."""
    from bursar.reports.steps import run_tree
    from bursar.tracing.queries import Reader

    with Reader(ledger) as reader:
        family = reader.family(reader.run(run).run_id)
        return run_tree(family, reader.calls(family), reader.verdicts(family))


def show_tree(tree: RunTree) -> None:
    """Print a run's tree."""
    from rich.tree import Tree

    root = Tree(_run_line(tree.run))
    _grow(root, tree)
    # A terminal folds long lines; a file or a pipe gets them whole.
    console(width=1_000).print(root)


def _grow(branch: Tree, tree: RunTree) -> None:
    for number, operation in enumerate(tree.operations, 1):
        _operation(branch, operation, number)
    for child in tree.children:
        _grow(branch.add(_run_line(child.run)), child)


def _operation(branch: Tree, operation: Operation, number: int) -> None:
    refused = [verdict for verdict in operation.verdicts if verdict.action == "deny" and verdict.acted]
    if not operation.attempts:
        branch.add(
            f"{number:>3} refused · " + "; ".join(_verdict(verdict) for verdict in refused or operation.verdicts)
        )
        return
    if len(operation.attempts) == 1:
        node = branch.add(f"{number:>3} {_attempt(operation.attempts[0])}")
    else:
        node = branch.add(
            f"{number:>3} {safe(operation.attempts[-1].request_model)} · {len(operation.attempts)} attempts"
        )
        for attempt in operation.attempts:
            node.add(_attempt(attempt))
    for verdict in operation.verdicts:
        node.add(_verdict(verdict))


def _run_line(run: RunRow) -> str:
    from bursar._money import show_usd
    from bursar._terms import shown

    limits = ", ".join(shown(unit, limit) for unit, limit in run.limits)
    took = "" if run.ended_us is None else f" · {(run.ended_us - run.started_us) / 1_000_000:.1f} s"
    state = safe(run.stop_reason) if run.stop_reason else "open, or died"
    of = f" of {limits}" if limits else ""
    return f"{safe(run.workflow)} {run.run_id} · {state} · {run.tokens:,} tokens · {show_usd(run.nusd)}{of}{took}"


def _attempt(call: CallRow) -> str:
    from bursar._money import show_usd

    cached = f" (cache {call.cache_read_tokens:,})" if call.cache_read_tokens else ""
    parts = [
        safe(call.response_model or call.request_model),
        f"in {call.input_tokens:,}{cached}",
        f"out {call.output_tokens:,}",
        show_usd(call.nusd) + ("" if call.cost_status == "list_price" else f" {call.cost_status.replace('_', ' ')}"),
        f"{call.latency_us / 1_000_000:.2f} s",
    ]
    if call.queue_us >= 1_000:
        parts.append(f"waited {call.queue_us / 1_000_000:.2f} s")
    if call.tool_calls:
        parts.append(f"{call.tool_calls} tool call{'s' if call.tool_calls > 1 else ''}")
    if call.status != "ok":
        parts.append(f"{call.status} {safe(call.error_type)}".strip())
    if call.retry_reason:
        parts.append(call.retry_reason)
    if call.flags:
        parts.append(" ".join(safe(flag) for flag in call.flags) + _cap(call))
    return " · ".join(parts)


def _cap(call: CallRow) -> str:
    if call.sent_max_tokens is None or call.sent_max_tokens == call.max_tokens:
        return ""
    asked = "none" if call.max_tokens is None else f"{call.max_tokens:,}"
    return f" (cap {asked} to {call.sent_max_tokens:,})"


def _verdict(verdict: VerdictRow) -> str:
    from bursar._terms import shown

    text = f"{verdict.guard}: {verdict.action} {safe(verdict.reason)}"
    if verdict.needed is not None and verdict.limit is not None:
        unit = verdict.unit or ""
        left = verdict.limit - (verdict.settled or 0) - (verdict.held or 0)
        text += (
            f", needed {shown(unit, verdict.needed)}, left {shown(unit, max(0, left))} of {shown(unit, verdict.limit)}"
        )
    return text if verdict.acted else text + " (observed only)"
