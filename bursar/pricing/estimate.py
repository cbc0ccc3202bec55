"""What a call will probably use and what it can use at most, known before it is sent.

Input: the last usage of this conversation is an anchor that the provider itself counted; only what was added
since is estimated, times a ratio learned for this workflow and model. Without an anchor the whole is estimated.
Output: what calls of this workflow and model were seen to stay under. Bounds come in two kinds:

practical   the learned ratio's high (see `Window.high`); before anything is learned, the count times COLD_FACTOR
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

from bursar._demand import FLOOR_TOKENS, LEAST_TOKENS, Demand, Rate
from bursar.pricing.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bursar._events import Answer, ModelRequest, Transcript, Usage
    from bursar.pricing.rates import RateCard

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
        self._learned: dict[str, _Learned] = {}
        self._anchors: OrderedDict[int, _Anchor] = OrderedDict()
        self._changed: set[str] = set()

    def estimate(self, request: ModelRequest, workflow: str, conversation: int, card: RateCard | None) -> Estimate:
        """Bound one request; `conversation` tells conversations of the same text in other sessions apart."""
        script = request.transcript
        with self._lock:
            learned = self._learned.get(_key(workflow, request))
            anchor = self._anchors.get(conversation)
        likely, practical = _input(request, learned, anchor)
        hard = _hard(request)
        if script.unbounded:
            hard = max(hard, practical)
        practical = min(practical, hard)
        cap = request.cap_default if request.cap is None else request.cap
        high = learned.output.high_tokens() if learned else None
        if request.open_ended and high is not None:
            cap = min(cap, high)
        mean = learned.output.mean() if learned else None
        price = None
        if card is not None:
            cheaper = rate(request, card, practical)
            price = cheaper, rate(request, card, hard) if card.tiers else cheaper
        demand = Demand(
            practical,
            hard,
            cap,
            _floor(request, learned),
            LEAST_TOKENS + request.thinking,
            high,
            request.choices,
            request.clampable,
            1,
            price,
        )
        output_likely = cap if mean is None else min(cap, round(mean))
        return Estimate(likely, output_likely, demand, int(learned.crowd.largest()) if learned else 1)

    def learn(
        self, request: ModelRequest, workflow: str, conversation: int, answer: Answer, crowd: int, *, cut: bool
    ) -> None:
        """Take in what the provider says an attempt used; `cut` where our own cap ended the answer."""
        usage = answer.usage
        if usage is None:
            return
        key = _key(workflow, request)
        script = request.transcript
        with self._lock:
            learned = self._learned.get(key)
            if learned is None:
                learned = self._learned[key] = _Learned()
            self._changed.add(key)
            self._learn_input(learned, request, conversation, usage)
            if script.marks:
                self._anchors[conversation] = _Anchor(len(script.marks), script.marks[-1], usage.input_tokens)
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
        anchored = anchor is not None and _continues(script, anchor)
        start, before = (anchor.messages, anchor.input_tokens) if anchor is not None and anchored else (0, 0)
        text = sum(script.tokens[start:]) + (0 if anchored else script.fixed_tokens)
        counted = usage.input_tokens - before
        media = sum(script.media[start:]) if script.media else 0
        if media:
            # The text beside it is taken for what it probably was.
            likely, _ = _ratios(_window(learned, anchored=anchored), request.provider)
            learned.media.add(max(0.0, (counted - text * likely) / media))
        elif text > (SLACK if anchored else 0):
            (learned.delta if anchored else learned.whole).add(max(0.0, counted / text))

    def dump(self) -> dict[str, bytes]:
        """What has been learned since the last dump, to be kept."""
        with self._lock:
            changed, self._changed = self._changed, set()
            return {
                key: orjson.dumps({name: window.values() for name, window in self._learned[key].windows()})
                for key in changed
            }

    def load(self, kept: Mapping[str, bytes]) -> None:
        """Take back what was kept; what this process has seen itself is newer and stays."""
        with self._lock:
            for key, text in kept.items():
                windows = {name: Window(values) for name, values in orjson.loads(text).items()}
                self._learned.setdefault(key, _Learned(**windows))


def rate(request: ModelRequest, card: RateCard, input_tokens: int) -> Rate:
    """Price the dearest bucket that the request allows, in the dearest tier that its input may reach."""
    fees = request.searches * (card.web_search_nusd or 0)
    write = f"cache_write_{request.cache_write}" if request.cache_write else "input"
    base = card.base
    per_input, per_output = max(base.input, getattr(base, write)), base.output
    for above, rates in card.tiers:
        if input_tokens > above:
            per_input = max(per_input, rates.input, getattr(rates, write))
            per_output = max(per_output, rates.output)
    return Rate(fees, per_input, per_output)


def _key(workflow: str, request: ModelRequest) -> str:
    return f"{workflow}\x1f{request.provider}\x1f{request.model}"


def _continues(script: Transcript, anchor: _Anchor) -> bool:
    return len(script.marks) >= anchor.messages > 0 and script.marks[anchor.messages - 1] == anchor.mark


def _input(request: ModelRequest, learned: _Learned | None, anchor: _Anchor | None) -> tuple[int, int]:
    script = request.transcript
    anchored = anchor is not None and _continues(script, anchor)
    start, base, slack = 0, 0, 0
    fixed = fixed_most = script.fixed_tokens
    if anchor is not None and anchored:
        start, base, slack, fixed, fixed_most = anchor.messages, anchor.input_tokens, SLACK, 0, 0
    window = _window(learned, anchored=anchored)
    if not window:
        fixed_most = max(fixed_most, 0 if anchored else script.fixed_most)
    likely, high = _ratios(window, request.provider)
    if anchored and (learned is None or len(learned.delta) < EARLY):
        high = max(high, COLD_FACTOR.get(request.provider, 2.0))
    text = sum(script.tokens[start:])
    media, media_most = _media(script, start, learned) if script.media else (0, 0)
    return (
        base + media + ceil((text + fixed) * likely),
        base + media_most + ceil((text + fixed_most) * high) + slack,
    )


def _window(learned: _Learned | None, *, anchored: bool) -> Window | None:
    if learned is None:
        return None
    return learned.delta if anchored and len(learned.delta) else learned.whole


def _media(script: Transcript, start: int, learned: _Learned | None) -> tuple[int, int]:
    media, most = sum(script.media[start:]), sum(script.media_most[start:])
    mean = learned.media.mean() if learned else None
    high = learned.media.high() if learned else None
    if mean is None or high is None:
        return media, most
    return ceil(media * mean), max(most, ceil(media * high))


def _ratios(window: Window | None, provider: str) -> tuple[float, float]:
    mean = window.mean() if window else None
    high = window.high() if window else None
    if mean is None or high is None:
        return 1.0, COLD_FACTOR.get(provider, 2.0)
    return mean, high


def _hard(request: ModelRequest) -> int:
    script = request.transcript
    per_byte = BYTE_FACTOR.get(request.provider, 1.15)
    frames = MESSAGE_BYTES * (len(script.tokens) + request.tools_offered + 1)
    # The prompt that a provider adds for tools is in the tokens of the fixed part and in no bytes.
    told = script.fixed_most if request.tools_offered else 0
    return ceil(script.utf8_bytes * per_byte) + frames + sum(script.media_most) + told


def _floor(request: ModelRequest, learned: _Learned | None) -> int:
    if request.thinking:
        return request.thinking + FLOOR_TOKENS
    if request.reasoning:
        high = learned.reasoning.high_tokens() if learned else None
        return (REASONING_COLD if high is None else high) + FLOOR_TOKENS
    return FLOOR_TOKENS
