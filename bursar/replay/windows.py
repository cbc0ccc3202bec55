"""What a context window would have made of recorded runs: each strategy's cost, with the provider's prefix cache.

A request reads from the cache what it has in common with the one before, message by message, and writes the rest, at
the rates of the day. That is a cache that never expires and may end at any message: with Anthropic it takes a
breakpoint on the last message. What the model would have done without the words that were left out nobody knows: it
is taken to do the same.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.clients.histories import read_item
from bursar.guards.cuts import SUMMARY_TOKENS
from bursar.guards.history import History, Item
from bursar.guards.window import STRATEGIES, ContextWindow
from bursar.guards.window_state import WindowState
from bursar.pricing.price import price
from bursar.words.errors import BursarWarning
from bursar.words.events import Usage
from bursar.words.money import usd

if TYPE_CHECKING:
    from bursar.guards.cuts import Gaps
    from bursar.pricing.rates import RateCard

UNTRIMMED: Final = "none"
_INSTRUCTION_TOKENS: Final = 100


class Talk(NamedTuple):
    """A recorded run as messages: `fixed` tokens go with every request, `outputs` are what each answer cost."""

    items: tuple[Item, ...]
    fixed: int
    outputs: tuple[int, ...]


@dataclass(slots=True)
class WindowCost:
    """What one run costs under one strategy ("none" is untrimmed); `nusd` is None where it has no price.

    `cached` of the `input_tokens` were read from the cache. `trimmed` tokens of all requests were not sent. `peak` is
    the longest request.
    """

    strategy: str
    requests: int = 0
    input_tokens: int = 0
    cached: int = 0
    output_tokens: int = 0
    nusd: int | None = 0
    cuts: int = 0
    trimmed: int = 0
    peak: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain data; dollars as decimal text, null where unknown."""
        data = {name: getattr(self, name) for name in self.__slots__ if name != "nusd"}
        return {**data, "usd": None if self.nusd is None else f"{usd(self.nusd):f}"}


def windows(tokens: int) -> list[ContextWindow]:
    """One window of this size for each strategy, as they are by default."""
    with warnings.catch_warnings():
        # That sliding is dear is what the comparison is about to show.
        warnings.simplefilter("ignore", BursarWarning)
        return [
            ContextWindow(tokens=tokens, strategy=name, summarise="same" if name == "summarise" else None)
            for name in STRATEGIES
        ]


def compare(talk: Talk, specs: list[ContextWindow], card: RateCard | None) -> list[WindowCost]:
    """Send a recorded run untrimmed, and once more through each of these windows."""
    return [simulate(talk, None, card), *(simulate(talk, spec, card) for spec in specs)]


def simulate(talk: Talk, spec: ContextWindow | None, card: RateCard | None) -> WindowCost:
    """Send a recorded run request by request through one window."""
    cost = WindowCost(UNTRIMMED if spec is None else spec.strategy)
    history, state = History(), WindowState()
    trigger = None if spec is None else spec.trigger(None)
    sent: list[tuple[str, int]] = []
    answers = iter(talk.outputs)
    for item in talk.items:
        if item.role == "assistant" and len(history):
            made = None if spec is None or trigger is None else state.advance(history, spec, trigger, talk.fixed)
            if made is not None:
                cost.cuts += 1
                if state.cut_at and spec is not None and spec.strategy == "summarise":
                    _add(cost, sent, [*sent, ("instruction", _INSTRUCTION_TOKENS)], SUMMARY_TOKENS, card)
                    state.summarised(f"summary {cost.cuts}", SUMMARY_TOKENS)
            gaps = state.gaps(history)
            now = _request(talk, history, gaps, state)
            _add(cost, sent, now, next(answers), card)
            cost.requests += 1
            cost.trimmed += gaps.tokens
            sent = now
        history.append(item)
    return cost


def _request(talk: Talk, history: History, gaps: Gaps, state: WindowState) -> list[tuple[str, int]]:
    head, cleared = history.head(), frozenset(gaps.cleared)
    parts = [("fixed", talk.fixed), *((item.id, item.tokens) for item in history.items[:head])]
    if gaps.messages:
        parts.append((f"note {state.messages} {state.summary}", state.note_tokens()))
    for i in (*gaps.kept, *range(max(gaps.cut.drop_to, head), len(history))):
        item = history.items[i]
        parts.append((f"{item.id} cleared", item.tokens - item.clearable) if i in cleared else (item.id, item.tokens))
    return parts


def _add(
    cost: WindowCost, before: list[tuple[str, int]], now: list[tuple[str, int]], output: int, card: RateCard | None
) -> None:
    read = 0
    for old, new in zip(before, now, strict=False):
        if old != new:
            break
        read += new[1]
    total = sum(tokens for _, tokens in now)
    found = price(Usage(total, output, read, total - read), card).nusd
    cost.nusd = None if cost.nusd is None or found is None else cost.nusd + found
    cost.input_tokens += total
    cost.cached += read
    cost.output_tokens += output
    cost.peak = max(cost.peak, total)


def talk_of(raw: dict[str, Any], fixed: int = 0) -> Talk:
    """Read the messages of a recorded run, or what a skeleton says of their sizes; `fixed` tokens come on top."""
    messages = raw.get("messages")
    if not isinstance(messages, list):
        return _skeleton(raw.get("steps") or [], fixed)
    items = tuple(read_item(message) for message in messages)
    system = raw.get("system")
    fixed += read_item({"role": "system", "content": system}).tokens if system else 0
    asked = [(item, message) for at, (item, message) in enumerate(zip(items, messages, strict=True)) if at]
    outputs = tuple(_output(item, message) for item, message in asked if item.role == "assistant")
    return Talk(items, fixed, outputs)


def _output(item: Item, message: dict[str, Any]) -> int:
    usage = message.get("usage")
    counted = None if not isinstance(usage, dict) else usage.get("completion_tokens", usage.get("output_tokens"))
    return counted if counted.__class__ is int and 0 <= counted < 10**9 else item.tokens


def _skeleton(steps: list[Any], fixed: int) -> Talk:
    # A skeleton says how long each request was; what is not an answer or a result in it the user has said.
    items: list[Item] = []
    outputs: list[int] = []
    known = 0
    for n, step in enumerate(step for step in steps if step != ["u"]):
        missing = step[1] - known
        if missing > 0 and not (items and items[-1].role == "tool"):
            items.append(Item(f"u{n}", "user", missing))
            known += missing
        calls = step[4] if len(step) > 4 and isinstance(step[4], list) else []
        calls = [call for call in calls if isinstance(call, list) and len(call) > 6]
        ids = tuple(f"c{n}.{k}" for k in range(len(calls)))
        items.append(Item(f"a{n}", "assistant", step[2], calls=ids))
        outputs.append(step[2])
        known += step[2]
        for id_, call in zip(ids, calls, strict=True):
            tokens = call[6] if call[6].__class__ is int else 0
            items.append(Item(id_, "tool", tokens, results=(id_,), clearable=tokens - 24 if tokens >= 100 else 0))
            known += tokens
    return Talk(tuple(items), fixed, tuple(outputs))
