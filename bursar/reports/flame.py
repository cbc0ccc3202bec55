"""A run as a flame graph whose width is dollars, in the file format of speedscope (https://www.speedscope.app)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bursar.words.money import NANO_PER_USD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bursar.reports.steps import Operation, RunTree

_SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"

Stack = tuple[str, ...]


def speedscope(tree: RunTree, exporter: str) -> dict[str, Any]:
    """The file: a stack for each attempt and each tool call, as wide as it cost.

    The outermost frame is the run; then come nested runs, steps, and attempts where a step has several. What has no
    price has no width: the name of the profile says how many that are.
    """
    frames: dict[str, int] = {}
    samples, weights, unpriced = [], [], 0
    for stack, nusd in _stacks(tree, ()):
        if nusd is None:
            unpriced += 1
        elif nusd:
            samples.append([frames.setdefault(name, len(frames)) for name in stack])
            weights.append(nusd)
    name = f"{tree.run.workflow} {tree.run.run_id} · US dollars".replace("  ", " ")
    if unpriced:
        name += f" · {unpriced:,} without a price are not in it"
    return {
        "$schema": _SCHEMA,
        "exporter": exporter,
        "name": name,
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": frame} for frame in frames]},
        "profiles": [
            {
                "type": "sampled",
                "name": name,
                "unit": "none",
                "startValue": 0,
                "endValue": sum(weights) / NANO_PER_USD,
                "samples": samples,
                "weights": [nusd / NANO_PER_USD for nusd in weights],
            }
        ],
    }


def _stacks(tree: RunTree, above: Stack) -> Iterator[tuple[Stack, int | None]]:
    # A list of what is to come, since runs nest deeper than calls of Python may.
    waiting = [(tree, above)]
    while waiting:
        tree, above = waiting.pop()
        here = (*above, f"run {tree.run.workflow} {tree.run.run_id}".rstrip())
        for number, operation in enumerate(tree.operations, 1):
            yield from _operation(operation, number, here)
        waiting += [(child, here) for child in reversed(tree.children)]


def _operation(operation: Operation, number: int, above: Stack) -> Iterator[tuple[Stack, int | None]]:
    here = above
    if operation.attempts:
        last = operation.attempts[-1]
        here = (*above, f"step {number} {last.response_model or last.request_model}")
    for place, attempt in enumerate(operation.attempts, 1):
        several = len(operation.attempts) > 1
        yield (*here, f"step {number} attempt {place} {attempt.status}") if several else here, attempt.nusd
    for tool in operation.tools:
        if tool.nusd is not None:
            yield (*here, f"tool {tool.tool_name}"), tool.nusd
