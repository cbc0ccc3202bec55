"""The trace of a run: its rows as a tree of runs, operations and attempts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bursar.words.events import UsageSource
from bursar.words.money import usd
from bursar.words.rows import CallRow, ToolRow

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from bursar.words.rows import RunRow, VerdictRow

_MEASURED: Final = (UsageSource.PROVIDER, UsageSource.NONE)


@dataclass(slots=True)
class Operation:
    """What the caller asked for once: its attempts in order, what guards said to it, the tools that its answer called.

    A tool call that no answer of these runs asked for is an operation of its own, without attempts.
    """

    op_id: str
    attempts: list[CallRow] = field(default_factory=list)
    verdicts: list[VerdictRow] = field(default_factory=list)
    tools: list[ToolRow] = field(default_factory=list)


@dataclass(slots=True)
class RunTree:
    """A run, its operations in the order in which they were asked for, and the runs nested in it."""

    run: RunRow
    operations: list[Operation] = field(default_factory=list)
    children: list[RunTree] = field(default_factory=list)


def run_tree(
    runs: Sequence[RunRow], calls: Sequence[CallRow], verdicts: Sequence[VerdictRow], tools: Sequence[ToolRow] = ()
) -> RunTree:
    """Build the tree of the first of these runs; the others are nested in it."""
    trees = {run.run_id: RunTree(run) for run in runs}
    for run in runs[1:]:
        if run.parent_run_id in trees:
            trees[run.parent_run_id].children.append(trees[run.run_id])
    known = {call.call_id for call in calls}
    rows: list[CallRow | VerdictRow | ToolRow] = [*calls, *verdicts, *tools]
    # What was said of a tool call stands where the call stands.
    at = {tool.call_id.partition("/")[0]: _operation_of(tool, known) for tool in tools}
    operations: dict[str, Operation] = {}
    # A tool comes after the call that asked for it, whatever the wall clock did in between.
    for row in sorted(rows, key=lambda row: (isinstance(row, ToolRow) and row.requested_by in known, row.ts_us)):
        op_id = _operation_of(row, known)
        op_id = at.get(op_id, op_id)
        found = operations.get(op_id)
        if found is None:
            found = operations[op_id] = Operation(op_id)
            trees[row.run_id or runs[0].run_id].operations.append(found)
        if isinstance(row, CallRow):
            found.attempts.append(row)
        elif isinstance(row, ToolRow):
            found.tools.append(row)
        else:
            found.verdicts.append(row)
    for tree in trees.values():
        tree.operations = _in_step(tree.operations)
    _sum_up(trees[runs[0].run_id])
    return trees[runs[0].run_id]


def _sum_up(tree: RunTree) -> None:
    """Let a run that has not ended say what its rows do: its own was written when it began, and knows of none."""
    for child in tree.children:
        _sum_up(child)
    if tree.run.ended_us is not None:
        return
    calls = [call for each in tree.operations for call in each.attempts]
    tools = [tool for each in tree.operations for tool in each.tools]
    costs = [call.nusd for call in calls] + [tool.nusd for tool in tools]
    steps = [call.step or 0 for call in calls] + [tool.step for tool in tools]
    inner = [child.run for child in tree.children]
    guessed = [call for call in calls if call.usage_source not in _MEASURED]
    tree.run = tree.run._replace(
        steps=max(steps, default=0),
        tool_calls=len(tools) + sum(run.tool_calls for run in inner),
        tokens=sum(call.input_tokens + call.output_tokens for call in calls) + sum(run.tokens for run in inner),
        nusd=sum(nusd or 0 for nusd in costs) + sum(run.nusd for run in inner),
        unpriced=costs[: len(calls)].count(None) + sum(run.unpriced for run in inner),
        unmeasured_nusd=sum(call.nusd or 0 for call in guessed) + sum(run.unmeasured_nusd for run in inner),
    )


def _in_step(operations: list[Operation]) -> list[Operation]:
    """Calls in the order in which they were made, whatever the wall clock did in between; the rest where they are."""
    for each in operations:
        each.attempts.sort(key=lambda call: (len(call.call_id), call.call_id))
    calls = iter(sorted((each for each in operations if each.attempts), key=lambda each: each.attempts[0].step or 0))
    return [next(calls) if each.attempts else each for each in operations]


def _operation_of(row: CallRow | VerdictRow | ToolRow, known: Container[str]) -> str:
    if isinstance(row, ToolRow) and row.requested_by is not None and row.requested_by in known:
        return row.requested_by.rpartition("/")[0]
    return row.call_id.partition("/")[0] if isinstance(row, CallRow | ToolRow) else row.op_id


def as_json(tree: RunTree) -> dict[str, Any]:
    """The tree as plain data, null where something is not known.

    A run has the names of `RunRow`'s fields, `limits` as an object, `operations` and the `runs` nested in it. An
    operation has `op_id`, `attempts` (`CallRow`), `verdicts` (`VerdictRow`; amounts of unit `usd` in nano-dollars) and
    `tools` (`ToolRow`). Runs, attempts and tools have their cost as `nusd`, nano-dollars, and `usd`, decimal text.
    """
    return {
        **_priced(tree.run),
        "limits": dict(tree.run.limits),
        "operations": [
            {
                "op_id": operation.op_id,
                "attempts": [_priced(call) for call in operation.attempts],
                "verdicts": [verdict._asdict() for verdict in operation.verdicts],
                "tools": [_priced(tool) for tool in operation.tools],
            }
            for operation in tree.operations
        ],
        "runs": [as_json(child) for child in tree.children],
    }


def _priced(row: RunRow | CallRow | ToolRow) -> dict[str, Any]:
    return row._asdict() | {"usd": None if row.nusd is None else f"{usd(row.nusd):f}"}
