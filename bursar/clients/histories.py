"""Read the messages of every wire form into the window's neutral history; each message is read once.

Told apart by shape: chat completions, Anthropic's Messages, items of Responses, messages of LangChain. Nothing of the
text is kept but a hash.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.clients.transcript import MESSAGE_TOKENS
from bursar.guards.history import History, Item
from bursar.guards.loop_notes import NOTE_MARK as LOOP_MARK
from bursar.pricing.tokens import COUNTER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NOTE_MARK: Final = "[context window] "
"""How the window's own words begin, so that they are known again."""
CLEARED: Final = NOTE_MARK + "This result was cleared to save space. Call the tool again if it is needed."
_CLEARED_TOKENS: Final = 24
_MEDIA_TOKENS: Final = 1_600
"""Tokens of what is attached, roughly: the provider's own count corrects the whole."""
_LEAST_CLEARED: Final = 100
"""Tokens of a result from which on clearing it is worth a word."""
_ROLES: Final = {"human": "user", "ai": "assistant", "developer": "system", "function": "tool"}
_ROLE_NAMES: Final = frozenset({"system", "user", "assistant", "tool"})
_MEDIA: Final = frozenset(
    {
        "image", "image_url", "input_image", "computer_screenshot", "document", "file", "input_file", "input_audio",
        "audio", "video",
    }
)  # fmt: skip
_ITEM_CALLS: Final = {"mcp_approval_request": "id", "mcp_approval_response": "approval_request_id"}
"""Items of Responses whose pair is told by another field than `call_id`."""
_STANDING: Final = frozenset({"compaction", "additional_tools", "configuration_update", "mcp_list_tools"})
"""What stands for all that was before it, or holds for all that comes: types of items and blocks that stay."""
_CLEARABLE: Final = (None, "tool", "function_call_output", "custom_tool_call_output")
"""Types of messages whose result may be replaced by a sentence: other items have outputs of a shape of their own."""
_NO_WORDS: Final = frozenset({"cache_control", "type", "role", "status", "usage"})


class Reading:
    """Reads a conversation as it grows: what was read before is not read again."""

    def __init__(self, pin: Callable[[Any], object] | None = None) -> None:
        self.history = History()
        self._pin = pin
        self._seen: Sequence[Any] = ()

    def take(self, messages: Sequence[Any], marks: Sequence[Any] | None = None) -> History:
        """Read what was added or changed since the last time; `marks` tell messages apart where objects do not."""
        seen = list(messages) if marks is None else marks
        known = len(self._seen)
        if len(seen) < known or seen[:known] != self._seen:
            pairs = zip(seen, self._seen, strict=False)
            known = next((i for i, (new, old) in enumerate(pairs) if new is not old and new != old), len(seen))
            known = min(known, len(self._seen))
            self.history.truncate(known)
        for message in islice(messages, known, None):
            self.history.append(read_item(message, self._pin))
        self._seen = seen
        return self.history


class _Said(NamedTuple):
    """What one message was found to hold, while it is read."""

    words: list[str]
    calls: list[str]
    results: list[str]
    media: list[str]


def read_item(message: Any, pin: Callable[[Any], object] | None = None) -> Item:
    """Read one message of any form. Never raises: what cannot be read is counted by its type's name and kept whole."""
    try:
        return _read(plain(message), pinned=pin is not None and _pinned(message, pin))
    except Exception:  # noqa: BLE001 - objects of the caller may raise what they like
        return Item(type(message).__name__, "system", MESSAGE_TOKENS, pinned=True)


def plain(message: Any) -> dict[str, Any]:
    """One message as plain data, whatever the form."""
    if isinstance(message, dict):
        return message
    if isinstance(message, str):
        return {"role": "user", "content": message}
    kind = getattr(message, "type", None)
    if hasattr(message, "content") and hasattr(message, "additional_kwargs"):
        # A message of LangChain; its classes are not imported for that.
        data = {"role": str(kind).removesuffix("MessageChunk").lower(), "content": message.content}
        told = any(isinstance(block, dict) and block.get("type") == "tool_use" for block in _list(message.content))
        for name in ("tool_call_id", "name") if told else ("tool_calls", "tool_call_id", "name"):
            # Where the content has the calls as blocks, the list of them says the same again.
            if getattr(message, name, None):
                data[name] = getattr(message, name)
        return data
    return message.model_dump(exclude_none=True)  # type: ignore[no-any-return]  # an object of an SDK


def role_of(message: dict[str, Any]) -> str:
    """Who speaks in a message without results: an item of Responses that has no role is the model's."""
    role = message.get("role")
    if not isinstance(role, str):
        return "system" if message.get("type") in _STANDING else "assistant"
    role = _ROLES.get(role, role)
    return role if role in _ROLE_NAMES else "user"


def _read(message: dict[str, Any], *, pinned: bool) -> Item:
    said = _Said([], [], [], [])
    role, kind = role_of(message), message.get("type")
    clearable = 0
    call_id = message.get(_ITEM_CALLS.get(str(kind), "call_id"))
    if isinstance(call_id, str):
        # An item of Responses: a call, or what came of it.
        is_result = str(kind).endswith(("_output", "_response"))
        (said.results if is_result else said.calls).append(call_id)
        role = "tool" if is_result else "assistant"
    elif role == "tool":
        said.results.append(str(message.get("tool_call_id") or f"function {message.get('name')}"))
    if role == "tool" and kind in _CLEARABLE:
        clearable = clearable_tokens(message.get("output" if "output" in message else "content"))
    said.calls.extend(str(call.get("id")) for call in _list(message.get("tool_calls")))
    blocks = [block for block in _list(message.get("content")) if isinstance(block, dict)]
    said.calls.extend(str(block.get("id")) for block in blocks if block.get("type") == "tool_use")
    results = [block for block in blocks if block.get("type") == "tool_result"]
    if results:
        role = "tool"
        said.results.extend(str(block.get("tool_use_id")) for block in results)
        clearable = sum(clearable_tokens(block.get("content")) for block in results)
    for name, value in message.items():
        if name not in _NO_WORDS and value is not None:
            _collect(without_note(value) if role == "user" and name == "content" else value, said)
    if role == "user" and _starts(message.get("content"), LOOP_MARK):
        # What the loop guard says goes with the results that it is about.
        role = "tool"
    pinned = pinned or any(block.get("type") in _STANDING for block in blocks)
    return Item(
        _id(role, said), role, MESSAGE_TOKENS + _tokens(said), _once(said.calls), _once(said.results), clearable, pinned
    )


def _once(ids: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ids))


def without_note(content: Any) -> Any:
    """A message's content without the note that the window put into it."""
    if isinstance(content, str):
        before, found, _ = content.partition("\n\n" + NOTE_MARK)
        return before if found else content
    if isinstance(content, list) and content and _is_note(content[-1]):
        return content[:-1]
    return content


def _starts(content: Any, mark: str) -> bool:
    return isinstance(content, str) and content.startswith(mark)


def _is_note(block: Any) -> bool:
    text = block.get("text") if isinstance(block, dict) else None
    return isinstance(text, str) and text.startswith(NOTE_MARK)


def clearable_tokens(result: Any) -> int:
    """Tokens that are gained when a result of a tool is cleared, 0 where it is better left alone."""
    said = _Said([], [], [], [])
    _collect(result, said)
    # What stands for a picture would have to be one too.
    tokens = 0 if said.media else _tokens(said)
    return tokens - _CLEARED_TOKENS if tokens >= _LEAST_CLEARED else 0


def _collect(value: Any, said: _Said) -> None:
    if isinstance(value, str):
        said.words.append(value)
    elif isinstance(value, dict):
        if value.get("type") in _MEDIA:
            said.media.append(_outline(value))
            return
        for name, inner in value.items():
            if name not in ("cache_control", "type") and inner is not None:
                _collect(inner, said)
    elif isinstance(value, list | tuple):
        for inner in value:
            _collect(inner, said)
    elif hasattr(value, "model_dump"):
        _collect(value.model_dump(exclude_none=True), said)
    else:
        said.words.append(str(value))


def _outline(block: dict[str, Any]) -> str:
    # A picture of a megabyte is told by its length and its end.
    text = str(block)
    return f"{len(text)} {text[-200:]}"


def _tokens(said: _Said) -> int:
    return sum(COUNTER.measure(word).tokens for word in said.words) + _MEDIA_TOKENS * len(said.media)


def _id(role: str, said: _Said) -> str:
    text = "\x1f".join([role, *said.calls, *said.results, *said.words, *said.media])
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _pinned(message: Any, pin: Callable[[Any], object]) -> bool:
    try:
        return bool(pin(message))
    except Exception:  # noqa: BLE001 - a rule that fails drops nothing
        return True


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
