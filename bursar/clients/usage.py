"""Read what the providers say was used, and believe it only where it can be true.

Anthropic's `input_tokens` leaves cached tokens out, OpenAI's includes them; both become inclusive here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.clients.iterations import split
from bursar.clients.stated import stated
from bursar.words.events import CREDIT, SideUsage, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NO_FIELDS: Final[Mapping[str, Any]] = {}
MOST_TOKENS: Final = 10**9
"""No single call uses more: a larger number is a defect of the counter, not a count."""


class Reading(NamedTuple):
    """A usage, or None and the reason why there is none: "usage_missing" or "invalid_usage".

    `side` is what is billed on top of it, `model` what it is billed as where that is another model than was asked,
    `stated_nusd` what it says itself that it costs.
    """

    usage: Usage | None
    flags: tuple[str, ...] = ()
    side: tuple[SideUsage, ...] = ()
    model: str | None = None
    stated_nusd: int | None = None


class _InvalidError(Exception):
    """A number that cannot be a count of tokens."""


def get(value: Any, name: str) -> Any:
    """A field of a typed object or of plain JSON."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def fields(value: Any) -> Mapping[str, Any]:
    """All fields of a typed object or of plain JSON, to look at. Where several are asked for it is cheaper than `get`.

    A field that a typed object lacks has to be looked for in its class, which takes the SDKs' models long.
    """
    if isinstance(value, dict):
        return value
    try:
        more = value.__pydantic_extra__
        return {**value.__dict__, **more} if more else value.__dict__
    except AttributeError:
        return getattr(value, "__dict__", _NO_FIELDS)


def word(value: Any) -> str | None:
    """A text, and nothing else that might stand in its place."""
    return value if isinstance(value, str) else None


def anthropic_usage(raw: Any) -> Reading:
    """Read a Messages usage (the `usage` of `message_start` merged with that of `message_delta` for a stream)."""
    reading = _with_cost(raw, _read(raw, _anthropic))
    if reading.usage is None or (get(raw, "iterations") is None and get(raw, "fallback_credit") is None):
        return reading
    try:
        parts = split(get(raw, "iterations"), reading.usage, get, _anthropic)
    except _InvalidError:
        return Reading(None, ("invalid_usage",))
    credit = get(get(get(raw, "fallback_credit"), "status"), "type") == "redeemed"
    flags = (*reading.flags, *parts.flags, *((CREDIT,) if credit and CREDIT not in parts.flags else ()))
    return Reading(parts.usage, flags, parts.side, parts.model, reading.stated_nusd)


def chat_usage(raw: Any) -> Reading:
    """Read a Chat Completions usage."""
    return _with_cost(raw, _in_all(raw, _read(raw, _chat)))


def responses_usage(raw: Any) -> Reading:
    """Read a Responses usage."""
    return _with_cost(raw, _in_all(raw, _read(raw, _responses)))


def believable(value: Any) -> int | None:
    """A count of tokens that can be one."""
    try:
        return _count(value) or None
    except _InvalidError:
        return None


def _read(raw: Any, reader: Any) -> Reading:
    if raw is None or (raw.__class__ is dict and not raw):
        return Reading(None, ("usage_missing",))
    try:
        usage = reader(raw)
    except _InvalidError:
        return Reading(None, ("invalid_usage",))
    if usage is None:
        return Reading(None, ("usage_missing",))
    if usage.input_tokens == 0:
        # Every request has some: zeros are what a proxy writes that does not know.
        return Reading(None, ("invalid_usage",))
    parts = usage.cache_read_tokens + usage.cache_write_tokens
    if parts > usage.input_tokens:
        return Reading(usage._replace(input_tokens=parts), ("inconsistent_usage",))
    return Reading(usage)


def _with_cost(raw: Any, reading: Reading) -> Reading:
    """Take in what it says that it costs."""
    if raw.__class__ is not dict or reading.usage is None:
        return reading
    nusd, flags = stated(raw)
    return reading if nusd is None and not flags else reading._replace(flags=(*reading.flags, *flags), stated_nusd=nusd)


def _in_all(raw: Any, reading: Reading) -> Reading:
    """Count as output what only the total has: some vendors leave hidden thinking out of it, and bill it."""
    usage, total = reading.usage, get(raw, "total_tokens")
    if usage is None:
        return reading
    output = usage.output_tokens
    written = output if usage.reasoning_tokens <= output else output + usage.reasoning_tokens
    if total.__class__ is int and total <= MOST_TOKENS:
        written = max(written, total - usage.input_tokens)
    if written == output:
        return reading
    flags = reading.flags or ("inconsistent_usage",)
    return reading._replace(usage=usage._replace(output_tokens=written), flags=flags)


def _anthropic(raw: Any) -> Usage | None:
    uncached, output = get(raw, "input_tokens"), get(raw, "output_tokens")
    if uncached is None or output is None:
        return None
    read = _count(get(raw, "cache_read_input_tokens"))
    written = _count(get(raw, "cache_creation_input_tokens"))
    lives = get(raw, "cache_creation")
    hour = _count(get(lives, "ephemeral_1h_input_tokens")) if lives is not None else 0
    five = _count(get(lives, "ephemeral_5m_input_tokens")) if lives is not None else 0
    if written > hour + five and hour:
        # The totals of a stream's end have outgrown the lifetimes of its beginning: the rest is as dear as can be.
        hour = written - five
    written = max(written, hour + five)
    details = get(raw, "output_tokens_details")
    tools = get(raw, "server_tool_use")
    return Usage(
        input_tokens=_count(uncached) + read + written,
        output_tokens=_count(output),
        cache_read_tokens=read,
        cache_write_5m_tokens=written - hour,
        cache_write_1h_tokens=hour,
        reasoning_tokens=_count(get(details, "thinking_tokens")) if details is not None else 0,
        web_searches=_count(get(tools, "web_search_requests")) if tools is not None else 0,
        web_fetches=_count(get(tools, "web_fetch_requests")) if tools is not None else 0,
        code_executions=_count(get(tools, "code_execution_requests")) if tools is not None else 0,
    )


def _chat(raw: Any) -> Usage | None:
    return _openai(raw, "prompt_tokens", "completion_tokens")


def _responses(raw: Any) -> Usage | None:
    return _openai(raw, "input_tokens", "output_tokens")


def _openai(raw: Any, into: str, out: str) -> Usage | None:
    look = _looker(raw)
    given, made = look(into), look(out)
    if given is None or made is None:
        return None
    read = written = half_day = heard = reasoned = spoken = 0
    inside, outside = look(into + "_details"), look(out + "_details")
    if inside is not None:
        within = _looker(inside)
        read, heard = _count(within("cached_tokens")), _count(within("audio_tokens"))
        written, half_day = _written(within)
    if outside is not None:
        within = _looker(outside)
        reasoned, spoken = _count(within("reasoning_tokens")), _count(within("audio_tokens"))
    return Usage(
        input_tokens=_count(given),
        output_tokens=_count(made),
        cache_read_tokens=read,
        cache_write_30m_tokens=written - half_day,
        cache_write_12h_tokens=half_day,
        reasoning_tokens=reasoned,
        audio_input_tokens=heard,
        audio_output_tokens=spoken,
    )


def _looker(raw: Any) -> Callable[[str], Any]:
    # As `get`, for one who looks often; plain JSON is what mostly comes.
    return raw.get if isinstance(raw, dict) else lambda name: getattr(raw, name, None)


def _written(within: Callable[[str], Any]) -> tuple[int, int]:
    """What was written to the cache, and how much of it for half a day."""
    written, lives = _count(within("cache_write_tokens")), within("cache_write_tokens_details")
    if lives is None:
        return written, 0
    half_day = _count(get(lives, "ttl_12h_tokens"))
    return max(written, half_day + _count(get(lives, "ttl_30m_tokens"))), half_day


def _count(value: Any) -> int:
    if value is None:
        return 0
    # A bool is no count, a text is no count, and neither is 12.5, NaN or minus one.
    if value.__class__ is not int or not 0 <= value <= MOST_TOKENS:
        raise _InvalidError
    count: int = value
    return count
