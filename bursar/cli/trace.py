"""`bursar trace`: one run, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from bursar.cli.console import console, fail, output, safe, waiting, warn
from bursar.cli.ledger_option import LedgerOption, ledger_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.tree import Tree

    from bursar.reports.steps import Operation, RunTree
    from bursar.tracing.content import Content
    from bursar.words.rows import CallRow, RunRow, ToolRow, VerdictRow

_LONGEST_PART: Final = 4_000
"""Characters shown of one part of a conversation."""
_LONGEST_LINE: Final = 1_000
_A_WAIT_US: Final = 10_000
"""Waits shorter than this would be shown as none at all."""
_EPILOG = (
    "Example: bursar trace last; bursar trace msg_01XFDUDYJgAACzvnptvVoYEL; "
    "bursar trace last --speedscope run.json (open it at speedscope.app: width is dollars). "
    "Exit codes: 0 fine, 1 nothing found, or several, 2 usage."
)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("trace", epilog=_EPILOG)(trace_command)


def trace_command(
    which: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Of a run, a call, a response, a request or an OpenTelemetry trace, or the beginning of it; or: last.",
        ),
    ],
    ledger: LedgerOption = None,
    content: Annotated[
        bool, typer.Option("--content", help="What was asked and said, where it was kept (BURSAR_CONTENT).")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The tree as one JSON object.")] = False,
    speedscope: Annotated[
        Path | None, typer.Option("--speedscope", help="A flame graph for speedscope.app, as wide as it cost.")
    ] = None,
) -> None:
    """Show a run as a tree: steps, attempts, waits, costs, the tools that were called, and what guards said."""
    from bursar.reports.steps import as_json
    from bursar.tracing.content import read_contents

    if json and speedscope is not None:
        raise typer.BadParameter("--json and --speedscope are one or the other")
    path = ledger_path(ledger)
    traced = read_trace(which, path)
    if speedscope is not None:
        _write_flame(traced.tree, speedscope)
        return
    kept = read_contents(path, list(_attempts_of(traced.tree))) if content else None
    if json:
        # The fast one stops at 254 levels, which are 126 nested runs.
        from json import dumps

        found = as_json(traced.tree) | {"lineage": traced.lineage, "op_id": traced.op_id, "outcomes": traced.outcomes}
        found["ancestors"] = [run.run_id for run in traced.ancestors]
        if kept is not None:
            found["content"] = {call_id: _content_json(item) for call_id, item in kept.items()}
        output(dumps(found, separators=(",", ":")))
    else:
        show_trace(traced, kept)
    if kept is not None and not kept:
        warn("nothing is kept of this run: content is off by default, and is deleted after a while (keep_content)")


class Traced(NamedTuple):
    """A run with all that is nested in it, whom it is for, what it is nested in, and the operation that was meant."""

    tree: RunTree
    lineage: dict[str, str]
    ancestors: list[RunRow]
    op_id: str | None
    outcomes: dict[str, int] = {}  # noqa: RUF012 - never written to


def read_trace(which: str, ledger: Path) -> Traced:
    """Read the run that an id is of. Raises `LedgerError` for none, or several."""
    from bursar.reports.steps import run_tree
    from bursar.tracing.find import Finder
    from bursar.tracing.outcomes import OutcomeReader

    with Finder(ledger) as reader:
        run, op_id = reader.find(which, lambda: waiting("looking for it among the provider's ids"))
        if not run.run_id:
            assert op_id is not None
            return Traced(run_tree([run], reader.operation(op_id), []), {}, [], op_id)
        family = reader.family(run.run_id)
        tree = run_tree(family, reader.calls(family), reader.verdicts(family), reader.tools(family))
        with OutcomeReader(ledger) as outcomes:
            return Traced(tree, reader.lineage(run), reader.ancestors(run), op_id, outcomes.of_run(run.run_id))


def show_trace(traced: Traced, contents: Mapping[str, Content] | None = None) -> None:
    """Print a run's tree, with what was kept of its conversations where it is given."""
    from rich.tree import Tree

    root = Tree(_run_line(traced.tree.run))
    lines = [f"in {safe(run.workflow)} {run.run_id}" for run in traced.ancestors]
    brought = ", ".join(f"{count:,} {safe(name, 60)}" for name, count in traced.outcomes.items())
    lines.append(f"outcome: {brought}" if brought else "")
    lines.append(" · ".join(f"{name.removesuffix('_hash')} {safe(value)}" for name, value in traced.lineage.items()))
    for line in filter(None, lines):
        root.add(line)
    _grow(root, traced.tree, contents or {}, traced.op_id)
    # A terminal folds long lines; a file or a pipe gets them whole.
    console(width=1_000).print(root)


def _write_flame(tree: RunTree, target: Path) -> None:
    from importlib.metadata import version

    import orjson

    from bursar.reports.flame import speedscope

    found = speedscope(tree, f"bursar@{version('bursar')}")
    if not found["profiles"][0]["samples"]:
        fail("nothing in this run has a cost: a flame graph of dollars would be empty")
    try:
        target.write_bytes(orjson.dumps(found))
    except OSError as error:
        fail(f"{target} cannot be written: {error.strerror}")
    warn(f"written: {target}; open it at https://www.speedscope.app (it stays in the browser)")


def _attempts_of(tree: RunTree) -> Iterator[str]:
    trees = [tree]
    for found in trees:
        trees += found.children
        for operation in found.operations:
            yield from (call.call_id for call in operation.attempts)
            yield from (tool.call_id for tool in operation.tools)


def _content_json(content: Content) -> dict[str, Any]:
    sides = {"asked": content.asked, "said": content.said}
    return {"mode": content.mode} | {name: [part._asdict() for part in parts] for name, parts in sides.items()}


def _words(node: Tree, content: Content | None) -> None:
    for part in (*content.asked, *content.said) if content is not None else ():
        lines = [safe(line, _LONGEST_LINE) for line in part.text[:_LONGEST_PART].split("\n")]
        if len(part.text) > _LONGEST_PART:
            lines.append(f"… {len(part.text) - _LONGEST_PART:,} more characters: --json has them all")
        node.add("\n".join([f"{safe(part.role)}: {lines[0]}", *lines[1:]]))


def _grow(branch: Tree, tree: RunTree, contents: Mapping[str, Content], meant: str | None) -> None:
    for number, operation in enumerate(tree.operations, 1):
        _operation(branch, operation, number, contents)
        if operation.op_id == meant and branch.children:
            branch.children[-1].label = f"{branch.children[-1].label} <- this one"
    for child in tree.children:
        _grow(branch.add(_run_line(child.run)), child, contents, meant)


def _operation(branch: Tree, operation: Operation, number: int, contents: Mapping[str, Content]) -> None:
    refused = [verdict for verdict in operation.verdicts if verdict.action == "deny" and verdict.acted]
    if not operation.attempts and operation.tools:
        # No answer of this run asked for it.
        for tool in operation.tools:
            node = branch.add(f"{number:>3} {_tool(tool)}")
            _words(node, contents.get(tool.call_id))
            for verdict in operation.verdicts:
                node.add(_verdict(verdict))
        return
    if not operation.attempts:
        # What a gate asked about and let pass, and nothing was recorded of: a tool that nobody decorated.
        passed = any(verdict.guard == "gate" and verdict.action == "approved" for verdict in operation.verdicts)
        word = "asked about" if passed and not refused else "refused"
        branch.add(f"{number:>3} {word} · " + "; ".join(_verdict(verdict) for verdict in refused or operation.verdicts))
        return
    if len(operation.attempts) == 1:
        node = branch.add(f"{number:>3} {_attempt(operation.attempts[0])}")
        _beside(node, operation.attempts[0])
        _words(node, contents.get(operation.attempts[0].call_id))
    else:
        node = branch.add(
            f"{number:>3} {safe(operation.attempts[-1].request_model)} · {len(operation.attempts)} attempts"
        )
        reason = None
        for attempt in operation.attempts:
            leaf = node.add(_attempt(attempt, reason))
            _beside(leaf, attempt)
            _words(leaf, contents.get(attempt.call_id))
            reason = attempt.retry_reason
    for tool in operation.tools:
        _words(node.add(_tool(tool)), contents.get(tool.call_id))
    for verdict in operation.verdicts:
        node.add(_verdict(verdict))


def _beside(node: Tree, call: CallRow) -> None:
    from bursar.words.money import show_usd

    for side in call.side_usage:
        counts = (int(side.get(name) or 0) for name in ("input_tokens", "output_tokens"))
        into, out = counts
        what = f"{safe(side.get('kind'))} {safe(side.get('model') or '')}".strip()
        node.add(f"of it {what} · in {into:,} · out {out:,} · {show_usd(side.get('nusd'))}")


def _run_line(run: RunRow) -> str:
    from bursar.flow.terms import shown
    from bursar.words.money import show_usd

    limits = ", ".join(shown(unit, limit) for unit, limit in run.limits)
    took = "" if run.ended_us is None else f" · {(run.ended_us - run.started_us) / 1_000_000:.1f} s"
    state = safe(run.stop_reason) if run.stop_reason else "open, or died"
    of = f" of {limits}" if limits else ""
    name = f"{safe(run.workflow)} {run.run_id}".rstrip()
    return f"{name} · {state} · {run.tokens:,} tokens · {show_usd(run.nusd)}{of}{took}"


def _attempt(call: CallRow, after: str | None = None) -> str:
    from bursar.words.money import show_usd

    cached = f" (cache {call.cache_read_tokens:,})" if call.cache_read_tokens else ""
    parts = [
        safe(call.response_model or call.request_model),
        f"in {call.input_tokens:,}{cached}",
        f"out {call.output_tokens:,}",
        show_usd(call.nusd) + ("" if call.cost_status == "list_price" else f" {call.cost_status.replace('_', ' ')}"),
        f"{call.latency_us / 1_000_000:.2f} s",
    ]
    follows = _follows(call, after)
    if follows:
        parts.append(follows)
    if call.queue_us >= _A_WAIT_US:
        parts.append(f"waited {call.queue_us / 1_000_000:.2f} s")
    if call.web_searches:
        parts.append(f"{call.web_searches} search{'es' if call.web_searches > 1 else ''}")
    if call.tool_calls:
        parts.append(f"{call.tool_calls} tool call{'s' if call.tool_calls > 1 else ''}")
    if call.status != "ok":
        parts.append(f"{call.status} {safe(call.error_type)}".strip())
    if call.retry_reason:
        parts.append(call.retry_reason)
    if call.flags:
        parts.append(" ".join(safe(flag) for flag in call.flags) + _cap(call))
    return " · ".join(parts)


def _follows(call: CallRow, after: str | None) -> str:
    what = {
        "sdk": f"retry after {after}" if after else "retry",
        "harness": "resubmitted",
        "fallback": f"fallback from {safe(call.fallback_from)}",
    }.get(call.attempt_source or "", "")
    if not what or call.backoff_us is None or call.backoff_us < _A_WAIT_US:
        return what
    return f"{what}, waited {call.backoff_us / 1_000_000:.2f} s"


def _tool(tool: ToolRow) -> str:
    from bursar.words.money import show_usd

    parts = [f"tool {safe(tool.tool_name)}"]
    if tool.effect:
        parts.append(safe(tool.effect))
    if tool.status != "asked":
        parts.append(f"{tool.latency_us / 1_000_000:.2f} s")
    if tool.nusd is not None:
        parts.append(show_usd(tool.nusd) + (" at most" if tool.fee_status == "upper_bound" else ""))
    if tool.queue_us >= _A_WAIT_US:
        parts.append(f"waited {tool.queue_us / 1_000_000:.2f} s")
    if tool.status != "ok":
        parts.append(f"{safe(tool.status)} {safe(tool.error_type)}".strip())
    if tool.repeat_index:
        result = {None: "", True: ", same result", False: ", another result"}[tool.same_result]
        parts.append(f"repeat {tool.repeat_index:,}{result}")
    parts += [safe(flag) for flag in tool.flags]
    return " · ".join(parts)


def _cap(call: CallRow) -> str:
    if call.sent_max_tokens is None or call.sent_max_tokens == call.max_tokens:
        return ""
    asked = "none" if call.max_tokens is None else f"{call.max_tokens:,}"
    return f" (cap {asked} to {call.sent_max_tokens:,})"


def _verdict(verdict: VerdictRow) -> str:
    from bursar.flow.terms import shown
    from bursar.words.money import show_usd

    about = f"{safe(verdict.scope)}: " if verdict.guard == "gate" and verdict.scope else ""
    text = f"{verdict.guard}: {verdict.action} {about}{safe(verdict.reason, 200)}"
    if verdict.needed is not None and verdict.limit is not None:
        unit = verdict.unit or ""
        left = verdict.limit - (verdict.settled or 0) - (verdict.held or 0)
        text += (
            f", needed {shown(unit, verdict.needed)}, left {shown(unit, max(0, left))} of {shown(unit, verdict.limit)}"
        )
    if verdict.streak is not None:
        text += f" {safe(verdict.scope)}, {verdict.streak:,} in a row, {verdict.tokens or 0:,} tokens"
        text += "" if verdict.nusd is None else f", {show_usd(verdict.nusd)}"
        text += " since"
    return text if verdict.acted else text + " (observed only)"
