"""Translate how LangChain says that a call ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bursar.clients.answers import of_reading
from bursar.clients.failures import of_error, of_status
from bursar.clients.usage import Reading, anthropic_usage, chat_usage, counted, fields, word
from bursar.words.errors import Stopped
from bursar.words.events import Answer, RetryReason, Status, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CACHED: Final = "response_cache"
"""The flag of a call that LangChain answered from its own response cache: nothing was sent, nothing is charged."""
_TIERS: Final = ("priority", "flex")
_CUT: Final = frozenset({"max_tokens", "length"})


def of_result(result: Any, *, words: bool = False) -> Answer:
    """An `LLMResult` that arrived whole. With several generations the usage stands on each: the first is read.

    `words`: with what it says, for kept content. Never raises: it is paid for, whatever its shape.
    """
    try:
        return _of_result(result, words=words)
    except Exception:  # noqa: BLE001 - models of others write what they like: the bound, and the caller has his answer
        return Answer(Status.OK, http_status=200, flags=("unreadable",), charge="bound")


def _of_result(result: Any, *, words: bool) -> Answer:
    generations = result.generations
    batch = generations[0] if generations else []
    messages = [found for each in batch if (found := getattr(each, "message", None)) is not None]
    if not messages:
        return _of_text(batch, result.llm_output or {})
    # From the dictionary: what a message of LangChain's lacks takes it long to miss.
    first = fields(messages[0]).get
    metadata, told = first("response_metadata") or {}, first("usage_metadata")
    if told is not None and told.get("total_cost") == 0:
        return Answer(Status.OK, charge="release", sent=False, flags=(CACHED,))
    reading, tier = _usage(metadata, told)
    get = metadata.get
    stop = word(get("stop_reason") or get("finish_reason"))
    return of_reading(
        reading,
        model=word(get("model_name") or get("model")),
        response_id=word(get("id")),
        finish=stop,
        cut=stop in _CUT,
        tool_calls=_tool_calls(first) if len(messages) == 1 else sum([_tool_calls(fields(m).get) for m in messages]),
        tier=word(get("service_tier")) or tier,
        said=_said(messages) if words else None,
    )


def of_decision(output: Any) -> Answer:
    """What a decision model answered, which runs as a chain and says its usage in its answer."""
    reading = counted_usage(getattr(output, "usage", None))[0]
    model, request_id = word(getattr(output, "model", None)), word(getattr(output, "request_id", None))
    return of_reading(reading, model=model, request_id=request_id)


def of_failure(error: BaseException, *, output_seen: int | None = None) -> Answer:
    """An exception in place of an answer; `output_seen` are the tokens of a stream that had begun."""
    if isinstance(error, Stopped):
        ended = Answer(Status.BLOCKED, error_type=type(error).__name__, charge="seen" if error.sent else "release")
    else:
        status = getattr(error, "status_code", None)
        if output_seen is None and status.__class__ is int and status >= 400:
            # Whatever the SDK inside has tried again is over by now.
            ended = of_status(status, type(error).__name__, word(getattr(error, "request_id", None)), {})
            return ended._replace(retryable=False)
        ended = of_error(error)._replace(retryable=False)
        if isinstance(error, GeneratorExit):
            ended = ended._replace(status=Status.ABANDONED)
    if output_seen is None or ended.charge == "release":
        return ended
    reason = ended.retry_reason if ended.status in (Status.CANCELLED, Status.ABANDONED, Status.BLOCKED) else None
    lost = RetryReason.CONNECTION if ended.status is Status.ERROR else reason
    return ended._replace(output_seen=output_seen, charge="seen", retry_reason=ended.retry_reason or lost)


def abandoned(*, output_seen: int | None = None) -> Answer:
    """A call whose end nobody will tell: what it was waiting for is gone. Charged at its bound; see `of_failure`."""
    return Answer(Status.ABANDONED, error_type="Abandoned", output_seen=output_seen or 0, charge="bound")


def counted_usage(told: Mapping[str, Any] | None) -> tuple[Reading, str | None]:
    """LangChain's own `UsageMetadata`, and the tier that it writes into the names of its details."""
    if not told:
        return Reading(None, ("usage_missing",)), None
    look = told.get
    within, beyond = look("input_token_details"), look("output_token_details")
    if not within and not beyond:
        return counted(look("input_tokens"), look("output_tokens")), None
    inside, tier = _plain(within)
    outside, other = _plain(beyond)
    five, hour = inside.get("ephemeral_5m_input_tokens", 0), inside.get("ephemeral_1h_input_tokens", 0)
    # Where the lifetimes are told, LangChain writes a zero for the whole.
    written = max(inside.get("cache_creation", 0), five + hour)
    reading = counted(
        look("input_tokens"),
        look("output_tokens"),
        read=inside.get("cache_read"),
        written=written,
        reasoned=outside.get("reasoning"),
    )
    if reading.usage is not None and hour:
        reading = reading._replace(
            usage=reading.usage._replace(cache_write_30m_tokens=written - hour, cache_write_1h_tokens=hour)
        )
    return reading, tier or other


def _usage(metadata: Mapping[str, Any], told: Mapping[str, Any] | None) -> tuple[Reading, str | None]:
    # The provider's own words first: LangChain's lose the lifetimes of cache writes.
    own = metadata.get("usage")
    if own:
        reading = anthropic_usage(own)
        if reading.usage is not None:
            return reading, word(own.get("service_tier"))
    own = metadata.get("token_usage")
    if own:
        reading = chat_usage(own)
        if reading.usage is not None:
            return reading, None
    reading, tier = counted_usage(told)
    if reading.usage is not None and metadata.get("model_provider") == "anthropic":
        reading = reading._replace(usage=_five_minutes(reading.usage))
    return reading, tier


def _five_minutes(usage: Usage) -> Usage:
    return usage._replace(cache_write_30m_tokens=0, cache_write_5m_tokens=usage.cache_write_30m_tokens)


def _plain(details: Any) -> tuple[dict[str, int], str | None]:
    # "priority_cache_read" beside "priority": the tier is in the names, and their sum under its own.
    found: dict[str, int] = {}
    tier: str | None = None
    for name, value in (details or {}).items():
        bare = name
        if name.startswith(_TIERS):
            prefix, _, rest = name.partition("_")
            if prefix in _TIERS:
                bare, tier = rest, tier or prefix
        if bare and value.__class__ is int:
            found[bare] = found.get(bare, 0) + value
    return found, tier


def _of_text(batch: list[Any], said: Mapping[str, Any]) -> Answer:
    reading = chat_usage(said.get("token_usage"))
    info = getattr(batch[0], "generation_info", None) or {} if batch else {}
    stop = word(info.get("finish_reason"))
    return of_reading(
        reading,
        model=word(said.get("model_name")),
        finish=stop,
        cut=stop in _CUT,
        said={"choices": [{"message": {"content": each.text}} for each in batch]},
    )


def _tool_calls(told: Callable[[str], Any]) -> int:
    calls = len(told("tool_calls") or ()) + len(told("invalid_tool_calls") or ())
    content = told("content")
    if isinstance(content, list):
        calls += sum(isinstance(b, dict) and b.get("type") == "server_tool_use" for b in content)
    return calls


def _said(messages: list[Any]) -> dict[str, Any]:
    choices = [{"message": {"content": each.content, "tool_calls": _functions(each)}} for each in messages]
    return {"content": messages[0].content, "choices": choices}


def _functions(message: Any) -> list[dict[str, Any]]:
    return [
        {"function": {"name": call.get("name"), "arguments": str(call.get("args"))}}
        for call in getattr(message, "tool_calls", ())
    ]
