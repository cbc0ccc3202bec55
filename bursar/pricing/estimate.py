"""What a call will probably use and what it can use at most, known before it is sent.

Input: the last usage of this conversation is an anchor that the provider itself counted; only what was added
since is estimated, times a ratio learned for this workflow and model. Without an anchor the whole is estimated.
Output: what calls of this workflow and model were seen to stay under. Bounds come in two kinds:

practical   the learned ratio's high (see `Window.outlook`); before anything is learned, the count times COLD_FACTOR
hard        bytes: a byte-level tokenizer cannot make more than one token of one byte of UTF-8

What is attached (pictures, files, recordings) is counted by the vendor's own rules and stands beside the text: the
bounds take what it is at most, and how far the provider's count was from ours is learned for it alone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from bursar.pricing.window import Window
from bursar.words.demand import FLOOR_TOKENS, LEAST_TOKENS, Demand, Rate
from bursar.words.events import COMPACTED, ModelRequest, filled, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bursar.pricing.rates import RateCard
    from bursar.words.events import Answer, Transcript, Usage

COLD_FACTOR: Final = {"openai": 1.5, "anthropic": 2.0}
"""Tokens of a provider's own tokenizer for one of o200k, before any were seen: published comparisons and our own
measurements put Claude at 1.06 to 2.56 and newer OpenAI families near 1; tool schemas are counted less exactly."""
BYTE_FACTOR: Final = {"openai": 1.0, "anthropic": 1.15}
"""Tokens a byte at most. OpenAI's are byte-level BPE: 1. For Claude 1.06 was the largest measured: 1.15."""
MESSAGE_BYTES: Final = 20
"""Tokens that a message and its role add at most, on top of its bytes."""
REASONING_COLD: Final = 1_024
"""Room for thinking that a clamped answer keeps, before any thinking of the model was seen."""
ANCHORS: Final = 4_096
SLACK: Final = 16
"""Tokens that the practical bound keeps for the frame of what was added to a conversation."""
_WRITES: Final = {
    None: "input", "5m": "cache_write_5m", "30m": "cache_write_30m", "1h": "cache_write_1h", "12h": "cache_write_12h",
}  # fmt: skip
"""The rate of a cache write, by how long it lives."""
_MOST_RATES: Final = 256
_SEPARATOR: Final = "\x1f"


EARLY: Final = 20
"""Additions to conversations that are seen before their ratios alone bound the next: until then COLD_FACTOR does too.
An addition is a small part of a prompt: over recorded runs this held 0.2 to 1.2 % more and broke a tenth to a third
less often, the more the fewer runs a workflow had."""


class _Anchor(NamedTuple):
    messages: int
    mark: int
    input_tokens: int


@dataclass(slots=True)
class _Learned:
    """What was seen of one workflow with one model."""

    whole: Window = field(default_factory=Window)
    delta: Window = field(default_factory=Window)
    media: Window = field(default_factory=Window)
    output: Window = field(default_factory=Window)
    reasoning: Window = field(default_factory=Window)
    crowd: Window = field(default_factory=Window)

    def windows(self) -> Iterator[tuple[str, Window]]:
        for name in ("whole", "delta", "media", "output", "reasoning", "crowd"):
            yield name, getattr(self, name)


_ASKED: Final = parts_of(
    ModelRequest, "provider", "model", "transcript", "cap", "cap_default", "thinking", "reasoning", "clampable",
    "open_ended", "choices", "tools_offered", "summed",
)  # fmt: skip
_Key = tuple[str, str, str]
"""Workflow, provider, model."""
_UNSEEN: Final = _Learned()


class Estimate(NamedTuple):
    """The estimate of one attempt. `crowd`: how many calls like it are usually open at once."""

    input_likely: int
    output_likely: int
    demand: Demand
    crowd: int


class Estimator:
    """Learns from what calls used, and says what the next one will. One for the process, safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._learned: dict[_Key, _Learned] = {}
        self._anchors: OrderedDict[int, _Anchor] = OrderedDict()
        self._changed: set[_Key] = set()
        self._rates: dict[tuple[int, str | None, bool, bool], tuple[RateCard, tuple[Rate, Rate]]] = {}

    def estimate(self, request: ModelRequest, workflow: str, conversation: int, card: RateCard | None) -> Estimate:
        """Bound one request; `conversation` tells conversations of the same text in other sessions apart."""
        (
            provider, model, script, cap, cap_default, thinking, reasoning, clampable, open_ended, choices, tools,
            summed,
        ) = _ASKED(request)  # fmt: skip
        learned = self._learned.get((workflow, provider, model), _UNSEEN)
        anchor = self._anchors.get(conversation)
        likely, practical = _input(provider, script, learned, None if anchor is None else _continued(anchor, script))
        hard = hard_input(provider, script, tools)
        if practical > hard:
            if script.unbounded:
                hard = practical
            else:
                practical = hard
        if summed:
            # The summary reads the whole of it, and what is asked afterwards no more than that.
            practical, hard = 2 * practical, 2 * hard
        if cap is None:
            cap = cap_default
        written, high = learned.output.outlook(), None
        if written is not None:
            high = ceil(written[1])
            if open_ended:
                cap = min(cap, high)
        price = None
        if card is not None:
            price = self._price(request, card, practical, hard)
        floor = _floor(request, learned) if thinking or reasoning else FLOOR_TOKENS
        demand = filled(
            Demand, (practical, hard, cap, floor, LEAST_TOKENS + thinking, high, choices, clampable, 1, price)
        )
        output_likely = cap
        if written is not None and written[0] < cap:
            output_likely = round(written[0])
        return filled(Estimate, (likely, output_likely, demand, int(learned.crowd.largest()) or 1))

    def _price(self, request: ModelRequest, card: RateCard, practical: int, hard: int) -> tuple[Rate, Rate]:
        """At the practical and at the hard input; where nothing of the request matters, one pair for all calls."""
        if card.tiers or request.searches:
            return rate(request, card, practical), rate(request, card, hard)
        key = (id(card), request.cache_write, request.heard, request.spoken)
        known = self._rates.get(key)
        if known is None or known[0] is not card:
            alike = rate(request, card, hard)
            if len(self._rates) >= _MOST_RATES:
                self._rates.clear()
            # With its card, so that no other one can have its address.
            known = self._rates[key] = (card, (alike, alike))
        return known[1]

    def learn(
        self, request: ModelRequest, workflow: str, conversation: int, answer: Answer, crowd: int, *, cut: bool
    ) -> None:
        """Take in what the provider says an attempt used; `cut` where our own cap ended the answer."""
        usage = answer.usage
        if usage is None or COMPACTED in answer.flags:
            return
        key = (workflow, request.provider, request.model)
        script = request.transcript
        with self._lock:
            learned = self._learned.get(key)
            if learned is None:
                learned = self._learned[key] = _Learned()
            self._changed.add(key)
            self._learn_input(learned, request, conversation, usage)
            if script.marks:
                marks = script.marks
                self._anchors[conversation] = filled(_Anchor, (len(marks), marks[-1], usage.input_tokens))
                self._anchors.move_to_end(conversation)
                if len(self._anchors) > ANCHORS:
                    self._anchors.popitem(last=False)
            # An answer that our cap ended says only that more than this was wanted.
            output = usage.output_tokens // request.choices * (2 if cut else 1)
            learned.output.add(output)
            if usage.reasoning_tokens:
                learned.reasoning.add(usage.reasoning_tokens)
            learned.crowd.add(crowd)

    def _learn_input(self, learned: _Learned, request: ModelRequest, conversation: int, usage: Usage) -> None:
        script = request.transcript
        anchor = self._anchors.get(conversation)
        anchor = None if anchor is None else _continued(anchor, script)
        if anchor is None:
            start, text, counted = 0, sum(script.tokens) + script.fixed_tokens, usage.input_tokens
        else:
            start, counted = anchor.messages, usage.input_tokens - anchor.input_tokens
            text = sum(script.tokens[start:])
        media = sum(script.media[start:]) if script.media else 0
        if media:
            # The text beside it is taken for what it probably was.
            likely, _ = _ratios(learned, request.provider, anchored=anchor is not None)
            learned.media.add(max(0.0, (counted - text * likely) / media))
        elif anchor is None:
            if text > 0:
                learned.whole.add(max(0.0, counted / text))
        elif text > SLACK:
            learned.delta.add(max(0.0, counted / text))

    def dump(self) -> dict[str, bytes]:
        """What has been learned since the last dump, to be kept."""
        with self._lock:
            changed, self._changed = self._changed, set()
            return {
                _SEPARATOR.join(key): orjson.dumps({part: seen.values() for part, seen in self._learned[key].windows()})
                for key in changed
            }

    def load(self, kept: Mapping[str, bytes]) -> None:
        """Take back what was kept; what this process has seen itself is newer and stays."""
        with self._lock:
            for key, text in kept.items():
                windows = {name: Window(values) for name, values in orjson.loads(text).items()}
                workflow, provider, model = key.rsplit(_SEPARATOR, 2)
                self._learned.setdefault((workflow, provider, model), _Learned(**windows))


def rate(request: ModelRequest, card: RateCard, input_tokens: int) -> Rate:
    """Price the dearest bucket that the request allows, in the dearest tier that its input may reach."""
    fees = request.searches * (card.web_search_nusd or 0)
    write = _WRITES[request.cache_write]
    base = card.base
    per_input, per_output = max(base.input, getattr(base, write)), base.output
    for above, rates in card.tiers:
        if input_tokens > above:
            per_input = max(per_input, rates.input, getattr(rates, write))
            per_output = max(per_output, rates.output)
    if request.heard:
        per_input = max(per_input, base.audio_input)
    if request.spoken:
        per_output = max(per_output, base.audio_output)
    return Rate(fees, per_input, per_output)


def _continued(anchor: _Anchor, script: Transcript) -> _Anchor | None:
    """The anchor, where what it stands for is still the beginning of the conversation."""
    marks, (messages, mark, _) = script.marks, anchor
    return anchor if len(marks) >= messages and marks[messages - 1] == mark else None


def _input(provider: str, script: Transcript, learned: _Learned, anchor: _Anchor | None) -> tuple[int, int]:
    likely, high = _ratios(learned, provider, anchored=anchor is not None)
    if anchor is None:
        start, base, slack, fixed = 0, 0, 0, script.fixed_tokens
        text = most = sum(script.tokens) + fixed
        if not learned.whole.count and script.fixed_most > fixed:
            most += script.fixed_most - fixed
    else:
        start, _, base = anchor
        slack = SLACK
        text = most = sum(script.tokens[start:])
        if learned.delta.count < EARLY:
            high = max(high, COLD_FACTOR.get(provider, 2.0))
    media, media_most = _media(script, start, learned) if script.media else (0, 0)
    return base + media + ceil(text * likely), base + media_most + ceil(most * high) + slack


def _ratios(learned: _Learned, provider: str, *, anchored: bool) -> tuple[float, float]:
    """Tokens of the provider for one of ours, probably and at most."""
    seen = learned.delta.outlook() if anchored else None
    return seen or learned.whole.outlook() or (1.0, COLD_FACTOR.get(provider, 2.0))


def _media(script: Transcript, start: int, learned: _Learned) -> tuple[int, int]:
    media, most = sum(script.media[start:]), sum(script.media_most[start:])
    seen = learned.media.outlook()
    if seen is None:
        return media, most
    return ceil(media * seen[0]), max(most, ceil(media * seen[1]))


def hard_input(provider: str, script: Transcript, tools: int) -> int:
    """Tokens that the input of a request has at most, by its bytes."""
    per_byte, media = BYTE_FACTOR.get(provider, 1.15), script.media_most
    most = ceil(script.utf8_bytes * per_byte) + MESSAGE_BYTES * (len(script.tokens) + tools + 1)
    if tools:
        # The prompt that a provider adds for tools is in the tokens of the fixed part and in no bytes.
        most += script.fixed_most
    return most + sum(media) if media else most


def _floor(request: ModelRequest, learned: _Learned) -> int:
    """The smallest answer worth sending where the model thinks first."""
    if request.thinking:
        return request.thinking + FLOOR_TOKENS
    thought = learned.reasoning.outlook()
    return (REASONING_COLD if thought is None else ceil(thought[1])) + FLOOR_TOKENS
