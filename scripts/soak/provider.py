"""How the provider behaves: slow, and one time in six at fault; and what agents are told to do by their model."""

from __future__ import annotations

import json
import random
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from bursar.testing import ModelPrice, Provider, Reply, ToolUse, rates
from scripts.soak.marks import HARD, Mark, mark_of

if TYPE_CHECKING:
    from bursar.testing import ReceivedRequest

FAULTS: Final[tuple[tuple[float, dict[str, Any]], ...]] = (
    (0.03, {"status": 429}), (0.02, {"status": 500}), (0.02, {"status": 529}), (0.02, {"fault": "reset"}),
    (0.02, {"fault": "reset_after_billing"}), (0.02, {"fault": "drop_mid_stream"}),
    (0.02, {"fault": "error_mid_stream"}), (0.02, {"fault": "no_usage"}), (0.02, {"ignores_cap": True}),
)  # fmt: skip
CHUNK_S: Final = 0.025
"""A chunk of 8 tokens each: 320 tokens a second, as fast as the vendors' own models. A provider without any delay has
written whole answers into the socket's buffer when a caller leaves, and nobody can know what it will bill for those."""
OWN_MODEL: Final = "claude-house-1"
"""A model that no list has: its price is an override in bursar.toml."""
OWN_PRICE: Final = {"input": "1.50", "output": "6"}
OWN_BATCH: Final = {"input": "0.75", "output": "3"}
_MOST_ROUNDS: Final = 3
_SELECTION: Final = "ToolSelectionResponse"
"""The form in which LangChain asks which tools are wanted."""
_TEAM: Final = re.compile(r"<research (\d+)>")


def provider() -> Provider:
    """Make one that bills the model of one's own by what was agreed."""
    own = ModelPrice("anthropic", rates(OWN_PRICE["input"], OWN_PRICE["output"]), us=Decimal(1))
    return Provider(replies=reply, models={OWN_MODEL: own})


def reply(request: ReceivedRequest) -> Reply:
    """Answer one request."""
    dice, mark = random.Random(request.number), mark_of(request.body)
    asked: dict[str, Any] = {
        "output_tokens": dice.randint(20, 400),
        "latency_s": dice.uniform(0.005, 0.2),
        "chunk_delay_s": CHUNK_S if request.stream else 0.0,
        "tool_calls": _tool_calls(request.body, mark, dice),
    }
    if _SELECTION in json.dumps(request.body.get("response_format")):
        asked["text"] = json.dumps(_selection(dice))
    if asked["tool_calls"]:
        asked["output_tokens"] = dice.randint(5, 40)
    point = 1.0 if mark is None or mark.spared else dice.random()
    for share, fault in FAULTS:
        if point < share:
            kept = mark is not None and mark.kind == HARD
            return Reply(**asked) if kept and "ignores_cap" in fault else Reply(**asked, **fault)
        point -= share
    return Reply(**asked)


def _tool_calls(body: dict[str, Any], mark: Mark | None, dice: random.Random) -> tuple[ToolUse, ...]:
    names = {_name(tool) for tool in body.get("tools") or ()}
    choice = body.get("tool_choice")
    if not names or choice == "none" or (isinstance(choice, dict) and choice.get("type") == "none"):
        return ()
    forms = {"Order": {"number": dice.randint(1, 50)}, _SELECTION: _selection(dice)}
    if asked := next((form for form in forms if form in names), None):
        return (ToolUse(asked, forms[asked]),)
    said = json.dumps(body)
    if "research" in names:
        return _research(said, mark, dice)
    rounds = said.count('"tool_result"') + said.count('"role": "tool"')
    if rounds >= _MOST_ROUNDS or dice.random() < 0.25:
        return ()
    calls = []
    if "task" in names:
        asked = f"{mark} Find one fact about the number {dice.randint(1, 99)}."
        calls.append(ToolUse("task", {"description": asked, "subagent_type": "researcher"}))
    if "pay" in names:
        calls.append(ToolUse("pay", {"amount": dice.randint(1, 9)}))
    if "wire" in names:
        calls.append(ToolUse("wire", {"amount": dice.randint(1, 9), "nonce": f"{dice.getrandbits(64):x}"}))
    if "weigh_twice" in names:
        calls.append(ToolUse("weigh_twice", {"order": dice.randint(1, 50)}))
    if "look_up" in names:
        calls.append(ToolUse("look_up", {"order": dice.randint(1, 50)}))
    return tuple(calls[: dice.randint(1, 2)])


def _selection(dice: random.Random) -> dict[str, Any]:
    """Which tools are wanted; now and then in a form that nobody can read."""
    return {"tools": dice.choice([["look_up"], ["weigh", "look_up"], ["weigh"], [], "look_up"])}


def _research(said: str, mark: Mark | None, dice: random.Random) -> tuple[ToolUse, ...]:
    """As many sub-agents as were asked for, in one turn."""
    many = _TEAM.search(said)
    if many is None or '"tool_result"' in said or '"role": "tool"' in said:
        return ()
    asked = [f"{mark} {dice.random()} Find one fact about the number {n}." for n in range(int(many[1]))]
    return tuple(ToolUse("research", {"about": text}) for text in asked)


def _name(tool: Any) -> str:
    return str(tool.get("name") or (tool.get("function") or {}).get("name")) if isinstance(tool, dict) else ""
