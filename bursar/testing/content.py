"""Content: what the parts of a message weigh in a prompt, whichever vendor's shape they have."""

from collections.abc import Iterator
from typing import Any

from bursar.testing import media
from bursar.testing.billing import Vendor
from bursar.testing.cache import Segment, Ttl
from bursar.testing.dialect import dump

_MEDIA = frozenset({"image", "document", "image_url", "input_image", "input_file", "file", "input_audio"})
_TEXTS = ("text", "thinking", "refusal", "content", "output", "arguments")


def parts(content: Any, overhead: int, vendor: Vendor, model: str) -> Iterator[Segment]:
    """The segments of a message's content, as `model` reads it; the first carries the message's own overhead."""
    blocks = content if isinstance(content, list) else [content]
    yield from (_part(block, 0 if index else overhead, vendor, model) for index, block in enumerate(blocks or [""]))


def _part(block: Any, overhead: int, vendor: Vendor, model: str) -> Segment:
    if not isinstance(block, dict):
        return Segment(block if isinstance(block, str) else "" if block is None else dump(block), overhead)
    ttl = ttl_of(block)
    if block.get("type") in _MEDIA:
        return Segment("", overhead + media.tokens(vendor, model, block), ttl)
    if block.get("type") == "tool_use":
        return Segment(f"{block.get('name')}{dump(block.get('input'))}", overhead, ttl)
    nested = next((block[name] for name in _TEXTS if name in block), None)
    if isinstance(nested, str):
        return Segment(nested, overhead, ttl)
    if isinstance(nested, list):
        inner = list(parts(nested, 0, vendor, model))
        return Segment("".join(part.text for part in inner), overhead + sum(part.overhead for part in inner), ttl)
    return Segment(dump(block), overhead, ttl)


def ttl_of(block: dict[str, Any]) -> Ttl | None:
    """How long the prefix that ends with `block` is to be cached; None where it is not marked."""
    control = block.get("cache_control")
    if not isinstance(control, dict):
        return None
    return "1h" if control.get("ttl") == "1h" else "5m"


def function_schema(tool: Any, overhead: int) -> Segment:
    """A function as OpenAI's models are shown it: a type written out, its descriptions as comments, no JSON."""
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("parameters", {}), dict):
        return tool_schema(tool, overhead)
    shown = _shape(function.get("parameters") or {})
    return Segment(f"// {function.get('description')}\ntype {function.get('name')} = (_: {shown}) => any;\n", overhead)


def _shape(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "any"
    if schema.get("enum"):
        return " | ".join(dump(value) for value in schema["enum"])
    if isinstance(schema.get("items"), dict):
        return f"{_shape(schema['items'])}[]"
    inner = schema.get("properties")
    if not isinstance(inner, dict):
        return str(schema.get("type", "any"))
    lines = []
    for name, rule in inner.items():
        said = rule.get("description") if isinstance(rule, dict) else None
        lines.append((f"// {said}\n" if said else "") + f"{name}: {_shape(rule)},\n")
    return "{\n" + "".join(lines) + "}"


def tool_schema(tool: Any, overhead: int) -> Segment:
    """A tool's definition, counted as JSON without its cache mark."""
    if not isinstance(tool, dict):
        return Segment(dump(tool), overhead)
    return Segment(dump({name: tool[name] for name in tool if name != "cache_control"}), overhead, ttl_of(tool))


def as_list(value: Any) -> list[Any]:
    """A list as it is; anything else as no elements."""
    return value if isinstance(value, list) else []
