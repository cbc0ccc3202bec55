"""Take secrets out of text, in one place: by their shape, and by the values that the environment holds.

What reaches ledger, trace log or kept content has come through here. Over-redaction is meant: a text that looks like
a key is treated as one. Objects that are no text or number appear as the name of their type: nothing of theirs is run.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from bursar.words.records import ModelCall, Outcome, RunRecord, Tags, ToolCall, Verdict, Who

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bursar.words.records import Record

R = TypeVar("R", ModelCall, ToolCall, Verdict, RunRecord, Outcome)
MARK: Final = "[redacted]"
LOOKED_AT: Final = 4_096
"""Characters of a record's text that are kept and looked at; what is behind them is dropped, not passed."""
_SHORTEST: Final = 8
"""Characters below which a value of the environment is no secret: "true" and "prod" stand in honest texts."""
_REFRESH_S: Final = 1.0

_MOST_WORDS: Final = 1_000
_clean_words: Final[set[str | None]] = {None}

_SECRET_NAME: Final = re.compile(
    r"(?:^|_)(?:KEY|TOKEN)S?(?:_|$)|APIKEY|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL", re.IGNORECASE
)
_NAMED: Final = r"(?:api[_-]?key|access[_-]?key|secret|passw(?:or)?d|token(?!s)|credential|signature|sig|authorization)"
# A literal comes first in each alternative and what must not stand before it is looked for after: that is how the
# search stays fast in text without secrets.
_SHAPES: Final = re.compile(
    r"(?:"
    r"sk-(?<![A-Za-z0-9]sk-)(?=[a-z_-]{0,80}[A-Z0-9])[A-Za-z0-9_-]{16,}"  # OpenAI, Anthropic and many who copied them
    r"|[rs]k_(?:live|test)_[A-Za-z0-9]{10,}"  # Stripe
    r"|AIza[A-Za-z0-9_-]{30,}"  # Google
    r"|A(?:KIA|SIA)[A-Z0-9]{16}"  # AWS
    r"|xox[a-z]-[A-Za-z0-9-]{10,}"  # Slack
    r"|gh[opsur]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|(?:hf|gsk|r8|lsv2_[ps]t)_(?=[A-Za-z_]{0,80}[0-9])[A-Za-z0-9_]{20,}|(?:xai|pplx)-[A-Za-z0-9_-]{30,}"
    r"|eyJ(?<![A-Za-z0-9_-]eyJ)[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"  # JWT
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r")"
    r"|(?P<scheme>[Bb](?:earer|EARER)[ \t]+)(?:(?=[^\s,;\"']*[0-9])[^\s,;\"']{8,}|[^\s,;\"']{20,})"
    r"|(?P<basic>[Bb](?:asic|ASIC)[ \t]+)(?=[A-Za-z0-9+/]*[0-9A-Z=])[A-Za-z0-9+/]{8,}={0,2}(?![A-Za-z0-9])"
    r"|(?P<url>://)[^\s/?#@\"'<>]+(?=@)"
    r"|(?P<name>(?i:" + _NAMED + r")(?:[A-Za-z0-9_-]{0,20}[\"']?\s{0,3}[:=]\s{0,3}[\"']?))"
    r"(?!\[redacted\]|(?i:bearer|basic)\s)[^\s&#;,\"'<>(){}]{6,}"
)
_HINTS: Final = (
    "sk-", "k_", "AIza", "AKIA", "ASIA", "xox", "gh", "_pat_", "glpat-", "hf_", "r8_", "lsv2_", "xai-", "pplx-", "eyJ",
    "-----B", "earer", "EARER", "asic", "ASIC", "=", ":",
)  # fmt: skip
"""One of these is in every text that `_SHAPES` finds something in: looking for them costs a tenth."""
_EMAIL: Final = re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}")
_CARD: Final = re.compile(r"(?<![0-9])[0-9](?:[ -]?[0-9]){12,18}(?![0-9])")
_IBAN: Final = re.compile(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")

_CALL_TEXTS: Final = (
    "provider", "request_model", "response_model", "host", "tier_requested", "tier_served", "speed", "response_id",
    "request_id", "error_type", "finish_reason",
)  # fmt: skip
_TOOL_TEXTS: Final = ("tool_name", "tool_type", "tool_call_id", "effect", "error_type")
_VERDICT_TEXTS: Final = ("guard", "action", "reason", "scope", "unit")


class _Environment:
    """The secret values of the environment, looked for again every second: a program may set its keys late."""

    def __init__(self) -> None:
        self.values: tuple[str, ...] = ()
        self._next_look = 0.0

    def now(self) -> tuple[str, ...]:
        moment = time.monotonic()
        if moment >= self._next_look:
            self._next_look = moment + _REFRESH_S
            self.look()
        return self.values

    def look(self) -> None:
        found = {
            value.strip()
            for name, value in os.environ.items()
            if len(value.strip()) >= _SHORTEST and _SECRET_NAME.search(name)
        }
        found |= {quote(value, safe="") for value in found}
        # The longest first: of two secrets, one of which begins with the other, nothing may be left.
        values = tuple(sorted(found, key=lambda value: (-len(value), value)))
        if values != self.values:
            self.values = values
            _clean_who.cache_clear()
            _forget_words()


_environment: Final = _Environment()


def redact(text: str) -> str:
    """Replace what looks like a key, a token or a password, and every secret value of the environment."""
    for value in _environment.now():
        if value in text:
            text = text.replace(value, MARK)
    return _SHAPES.sub(_marked, text)


def mask(text: str) -> str:
    """As `redact`, and e-mail addresses, card numbers (by Luhn's check) and IBANs (by their own) as well."""
    text = _EMAIL.sub("[e-mail]", redact(text))
    text = _IBAN.sub(lambda found: "[iban]" if _is_iban(found[0]) else found[0], text)
    return _CARD.sub(lambda found: "[card]" if _is_card(found[0]) else found[0], text)


def plain(value: Any) -> Any:
    """A number or truth as it is, a text redacted and cut to `LOOKED_AT`, anything else as its type's name."""
    if value is None or value.__class__ in (int, bool, float):
        return value
    if isinstance(value, str):
        # Of a subclass its characters, by str's own method and not by one of the subclass.
        return redact(str.__str__(value)[:LOOKED_AT])
    return f"<{type(value).__name__}>"


def cleaned(record: Record) -> Record:
    """The record without secrets: the same object where there was nothing to take out."""
    if isinstance(record, ModelCall):
        return _clean_call(record)
    if isinstance(record, ToolCall):
        return _clean_tool(record)
    if isinstance(record, Verdict):
        return _clean_fields(record, _VERDICT_TEXTS)
    who = _clean_who(record.who)
    if isinstance(record, Outcome):
        return _clean_fields(record if who == record.who else replace(record, who=who), ("name",))
    return _clean_fields(record if who == record.who else replace(record, who=who), ("stop_reason",))


def _clean_call(call: ModelCall) -> ModelCall:
    who = _clean_who(call.who)
    if who != call.who:
        call = replace(call, who=who)
    words = (
        call.request_model, call.response_model, call.host, call.finish_reason, call.error_type, call.provider,
        call.tier_requested, call.tier_served, call.speed, *call.flags,
    )  # fmt: skip
    try:
        # Models, hosts and endings come again and again; the two ids are new each time.
        ids = "\n".join(["" if name is None else name for name in (call.response_id, call.request_id)])
        if _clean_words.issuperset(words) and not _suspicious(ids):
            return call
    except TypeError:
        # One of them is no text, and cannot even be looked up.
        pass
    flags = tuple(str(plain(flag)) for flag in call.flags)
    clean = _clean_fields(call if flags == call.flags else replace(call, flags=flags), _CALL_TEXTS)
    return _remembered(call, clean, words)


def _clean_tool(call: ToolCall) -> ToolCall:
    who = _clean_who(call.who)
    if who != call.who:
        call = replace(call, who=who)
    words = (call.tool_name, call.tool_type, call.effect, call.error_type)
    if _clean_words.issuperset(words) and not (call.tool_call_id and _suspicious(call.tool_call_id)):
        return call
    return _remembered(call, _clean_fields(call, _TOOL_TEXTS), words)


def _remembered(call: R, clean: R, words: Iterable[str | None]) -> R:
    if clean is call:
        if len(_clean_words) > _MOST_WORDS:
            _forget_words()
        _clean_words.update(word for word in words if word.__class__ is str)
    return clean


def _forget_words() -> None:
    _clean_words.clear()
    _clean_words.add(None)


def _suspicious(text: str) -> bool:
    for value in _environment.now():
        if value in text:
            return True
    return any(map(text.__contains__, _HINTS)) and _SHAPES.search(text) is not None


def _clean_fields(record: R, names: Iterable[str]) -> R:
    changed = {}
    for name in names:
        value = getattr(record, name)
        kept = plain(value)
        if kept is not value:
            changed[name] = kept
    return replace(record, **changed) if changed else record


@lru_cache(maxsize=1_024)
def _clean_who(who: Who) -> Who:
    # The user himself stays: no sink keeps him but as a keyed hash, and another text would have another one.
    extra = tuple((str(plain(name)), str(plain(value))) for name, value in who.tags.extra)
    tags = Tags._make((*(plain(tag) for tag in who.tags[:-1]), extra))
    found = Who(tags, who.user, plain(who.session))
    return who if found == who else found


def _marked(found: re.Match[str]) -> str:
    # What names the secret stays readable: `Authorization: Bearer [redacted]`.
    return f"{found[found.lastgroup] if found.lastgroup else ''}{MARK}"


def _is_card(text: str) -> bool:
    digits = [int(character) for character in text if character.isdecimal()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return any(digits) and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    packed = text.replace(" ", "")
    return 15 <= len(packed) <= 34 and int("".join(str(int(c, 36)) for c in packed[4:] + packed[:4])) % 97 == 1
