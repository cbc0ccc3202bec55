"""Put a cut into the messages of a wire form: leave out, clear, and say so where the model reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bursar.clients.histories import CLEARED, NOTE_MARK, clearable_tokens, plain, without_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bursar.guards.cuts import Gaps
    from bursar.guards.history import History
    from bursar.guards.window_state import WindowState


def note_text(state: WindowState) -> str:
    """What stands for the messages that were dropped. It changes only with a cut."""
    text = (
        f"{NOTE_MARK}{state.messages:,} earlier messages (about {state.tokens:,} tokens) were left out here to save "
        "space. Look up again what is missing."
    )
    return f"{text}\n\nWhat happened in them:\n{state.summary}" if state.summary else text


def apply(
    messages: Sequence[Any], history: History, gaps: Gaps, note: str | None, form: str | None = None
) -> list[Any]:
    """Make the messages that are sent; none of those given is changed, those that stay as they are are the same.

    `form` is "langchain", "responses", "messages" or "chat"; without it it is told by the messages.
    """
    head = history.head()
    cleared = frozenset(gaps.cleared)
    out = list(messages[:head])
    if note is not None:
        _add_note(out, history, note, form or form_of(messages))
    kept = [*gaps.kept, *range(max(gaps.cut.drop_to, head), len(messages))] if cleared else []
    if cleared:
        out += [_clear(messages[i]) if i in cleared else messages[i] for i in kept]
    else:
        out += [messages[i] for i in gaps.kept]
        out += messages[max(gaps.cut.drop_to, head) :]
    return out


def form_of(messages: Sequence[Any]) -> str:
    """Which of the forms these messages have: "langchain", "responses", "messages" or "chat"."""
    for message in messages:
        if isinstance(message, str) or hasattr(message, "additional_kwargs"):
            return "responses" if isinstance(message, str) else "langchain"
        data = plain(message)
        kind = data.get("type")
        if isinstance(kind, str):
            return "responses"
        content = data.get("content")
        kinds = {block.get("type") for block in content if isinstance(block, dict)} if isinstance(content, list) else ()
        if any(str(kind).startswith(("input_", "output_")) and kind != "input_audio" for kind in kinds):
            return "responses"
        if any(kind in ("tool_use", "tool_result", "thinking", "redacted_thinking") for kind in kinds):
            return "messages"
    return "chat"


def _add_note(out: list[Any], history: History, note: str, form: str) -> None:
    """Add the note to the first message of the user: roles go on in turn, and the cached prefix reaches up to it."""
    if out and history.items[len(out) - 1].role == "user":
        message = out[-1]
        if isinstance(message, str):
            out[-1] = f"{without_note(message)}\n\n{note}"
            return
        content = without_note(plain(message).get("content"))
        out[-1] = _with(message, "content", _noted(content, note, form))
    elif form == "langchain":
        from langchain_core.messages import HumanMessage

        out.append(HumanMessage(note))
    else:
        out.append({"role": "user", "content": note})


def _noted(content: Any, note: str, form: str) -> Any:
    if isinstance(content, list):
        return [*content, {"type": "input_text" if form == "responses" else "text", "text": note}]
    return f"{content}\n\n{note}" if content else note


def _clear(message: Any) -> Any:
    data = plain(message)
    if "output" in data:
        return _with(message, "output", CLEARED)
    content = data.get("content")
    if isinstance(content, list) and any(_is_result(block) for block in content):
        return _with(message, "content", [_cleared(block) if _is_result(block) else block for block in content])
    return _with(message, "content", CLEARED)


def _is_result(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "tool_result"


def _cleared(block: dict[str, Any]) -> dict[str, Any]:
    return {**block, "content": CLEARED} if clearable_tokens(block.get("content")) else block


def _with(message: Any, name: str, value: Any) -> Any:
    if isinstance(message, dict):
        return {**message, name: value}
    return message.model_copy(update={name: value})
