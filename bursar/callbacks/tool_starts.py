"""A tool call of LangChain before its gates: what is known of it, and the gate of the bare handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bursar.callbacks.gated_tools import Outer, gated, standing
from bursar.flow.call import ToolStep
from bursar.flow.gating import pass_tool_gates, still_approved
from bursar.runs.drive import drive
from bursar.words.clock import new_id
from bursar.words.errors import ApprovalDenied
from bursar.words.tools import declared, rule_for

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from bursar.flow.call import World
    from bursar.flow.gates import Gated
    from bursar.runs.scoped import ScopedFrame
    from bursar.words.ports import Effect

_UNCHANGEABLE: Final = (
    "its arguments were changed by who approved it, and the bare handler cannot change a call: the middleware can"
)
_running: dict[int, tuple[Gated, Outer]] = {}
"""Tool calls that handlers have let pass, by LangChain's run id."""


def gate_start(name: str, given: Mapping[str, Any], key: int, frame: ScopedFrame) -> None:
    """Let a tool call pass its gates where the bare handler sees it begin. Raises `ApprovalDenied`."""
    if frame.gates is None:
        return
    known = _running.get(key)
    step = step_of(name, given, None, frame)
    # Another handler has asked already: what it was answered counts, and further rules are heard.
    step.gate = standing(name, given) if known is None else known[0]
    drive(
        through(step, frame.owner.world, changeable=known is not None or step.gate.edited is not None), frame.owner.desk
    )
    if known is None:
        _running[key] = (step.gate, Outer(name, step.gate))


def gate_end(key: int) -> None:
    """A tool call is over."""
    known = _running.pop(key, None)
    if known is not None:
        known[1].close()


def through(step: ToolStep, world: World, *, changeable: bool = True) -> Generator[Effect, Any, None]:
    """Let a tool call pass its gates. Raises `ApprovalDenied`."""
    yield from pass_tool_gates(step, world)
    if not changeable and step.gate is not None and step.gate.edited is not None:
        raise ApprovalDenied(
            f"tool {step.name!r} was not called: {_UNCHANGEABLE}. To go on: add BursarMiddleware to the agent.",
            kind="tool",
            name=step.name,
            rule="",
            likely=step.nusd,
            bound=step.nusd,
            answer=_UNCHANGEABLE,
            run=step.frame.run,
        )
    yield from still_approved(step, None, world)


def step_of(name: str, given: Mapping[str, Any], tool_call_id: str | None, frame: ScopedFrame) -> ToolStep:
    """What is known of a tool call before it is made."""
    rule, spec = rule_for(frame.owner.settings.tools, name), declared.get(name)
    nusd = rule.nusd if spec is None or spec.nusd is None else spec.nusd
    effect = (spec.effect if spec is not None else None) or rule.effect
    # The answer that asked for it has charged it, unless it is decorated; then the decorator looks at the budget.
    step = ToolStep(new_id(), name, frame, "", nusd, effect, tool_call_id=tool_call_id, counted=True)
    step.gate = gated(given)
    step.gate.op_id = step.op_id
    return step
