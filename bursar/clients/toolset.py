"""Weigh the tools that a request offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bursar.pricing.tokens import COUNTER
from bursar.pricing.vision import claude_version

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLAUDE_PROMPTS: Final = (
    ((5, 0), "sonnet", (354, 474)),
    ((5, 0), "", (286, 406)),
    ((4, 8), "", (290, 410)),
    ((4, 7), "", (675, 804)),
    ((4, 6), "", (497, 589)),
    ((4, 5), "", (496, 588)),
    ((4, 0), "", (313, 315)),
    ((3, 5), "haiku", (264, 355)),
    ((3, 5), "", (346, 313)),
    ((0, 0), "", (530, 340)),
)
"""From this version on, of this family: tokens of the prompt that Claude is given with any tool, and of the one for a
`tool_choice` of `any` or `tool`. Anthropic, "Tool use": "Tool use system prompt token count"."""
FUNCTION: Final = 7
FUNCTIONS_END: Final = 12
PROPERTIES: Final = 3
PROPERTY: Final = 3
ENUM: Final = -3
ENUM_ITEM: Final = 3
"""Tokens beside the words of a function, its parameters and their values. OpenAI's cookbook, "How to count tokens with
tiktoken", for the GPT-4o models; newer ones are not published. We count nested objects by the same rule."""
_MOST_KEPT: Final = 4_096
_DEEPEST: Final = 8

_weighed: dict[tuple[int, int], int] = {}


def claude_prompt(model: str, choice: Any) -> int:
    """Tokens that Claude is given to read beside the tools themselves; of a newer version those of the last known."""
    family, version = claude_version(model)
    plain, forced = next(tokens for least, kind, tokens in _CLAUDE_PROMPTS if version >= least and kind in {"", family})
    kind = choice.get("type") if isinstance(choice, dict) else None
    return forced if kind in {"any", "tool"} else plain


def gpt_tool(tool: Mapping[str, Any], written: str, tokens: int) -> int:
    """Tokens of one function, by the published rule; of another kind of tool those of its JSON, `written`.

    Never more than its JSON has, so that a schema of strange form is not weighed without end.
    """
    key = (hash(written), len(written))
    known = _weighed.get(key)
    if known is None:
        function = tool.get("function", tool)
        known = tokens
        if isinstance(function, dict) and isinstance(function.get("parameters"), dict | None):
            known = min(tokens, FUNCTION + _words(function.get("name"), function.get("description")))
            known = min(tokens, known + _properties(function.get("parameters") or {}, 0))
        if COUNTER.ready:
            if len(_weighed) >= _MOST_KEPT:
                _weighed.clear()
            _weighed[key] = known
    return known


def _properties(schema: Any, depth: int) -> int:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or not properties or depth > _DEEPEST:
        return 0
    total = PROPERTIES
    for name, value in properties.items():
        rule = value if isinstance(value, dict) else {}
        total += PROPERTY + _words(name, rule.get("type"), rule.get("description"))
        choices = rule.get("enum")
        if isinstance(choices, list) and choices:
            total += ENUM + sum(ENUM_ITEM + _words(choice) for choice in choices)
        total += _properties(rule, depth + 1) + _properties(rule.get("items"), depth + 1)
    return total


def _words(*parts: Any) -> int:
    said = ":".join(str(part).removesuffix(".") for part in parts if isinstance(part, str | int | float | list))
    return COUNTER.measure(said).tokens if said else 0
