"""Estimates and bounds: cold, learned, anchored, and what is never crossed."""

from __future__ import annotations

import random
import threading
from datetime import date
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bursar.clients.requests import read
from bursar.pricing import estimate as estimate_module
from bursar.pricing.estimate import Estimator, rate
from bursar.pricing.rates import PriceList
from bursar.pricing.tokens import COUNTER
from bursar.pricing.window import SIZE, Window
from bursar.words.events import Answer, ModelRequest, Status, Usage

DAY = date(2026, 11, 20)
TEXT = "The agent looked at the file, ran the tests and found that the second one fails. "
COUNTER.count("load")


def talk(turns: int, **body: Any) -> ModelRequest:
    messages = [
        {"role": "user" if n % 2 == 0 else "assistant", "content": f"{n} " + TEXT * (1 + n % 5)} for n in range(turns)
    ]
    return read("messages", {"model": "claude-sonnet-5-5", "max_tokens": 1_000, "messages": messages, **body}, None)


def true_tokens(request: ModelRequest, ratio: float = 1.37) -> int:
    script = request.transcript
    return round(ratio * (sum(script.tokens) + script.fixed_tokens))


def answer(tokens: int, output: int = 100, **changes: Any) -> Answer:
    return Answer(Status.OK, usage=Usage(tokens, output, **changes), charge="usage")


def learn(estimator: Estimator, request: ModelRequest, said: Answer, *, crowd: int = 1, cut: bool = False) -> None:
    estimator.learn(request, "w", request.transcript.key, said, crowd, cut=cut)


def estimate(estimator: Estimator, request: ModelRequest) -> Any:
    return estimator.estimate(request, "w", request.transcript.key, None)


def test_before_anything_is_learned_the_bound_is_generous() -> None:
    """A cold bound is a multiple of the count and within the bytes; the output bound is the whole cap."""
    cold = estimate(Estimator(), talk(3))
    assert cold.input_likely * 1.9 <= cold.demand.input_practical <= cold.demand.input_hard
    assert (cold.demand.cap, cold.demand.learned, cold.demand.floor, cold.crowd) == (1_000, None, 256, 1)


def test_a_constant_ratio_is_learned_without_slack() -> None:
    """After twenty alike calls the bound of the next, unanchored one is within one per cent above the truth."""
    estimator = Estimator()
    for n in range(20):
        request = talk(1, system=f"{n} " + TEXT * 10)
        learn(estimator, request, answer(true_tokens(request)))
    request = talk(1, system="new " + TEXT * 10)
    warm = estimate(estimator, request)
    assert true_tokens(request) <= warm.demand.input_practical <= true_tokens(request) * 1.01 + 2


def test_a_growing_conversation_is_anchored() -> None:
    """From its fifth step on, a conversation is estimated within one per cent of a tokenizer 37 % above ours."""
    estimator, errors = Estimator(), []
    for turns in range(1, 30, 2):
        request = talk(turns)
        truth = true_tokens(request)
        if turns >= 9:
            found = estimate(estimator, request)
            errors.append(abs(found.input_likely - truth) / truth)
            assert truth <= found.demand.input_practical
        learn(estimator, request, answer(truth))
    assert max(errors) <= 0.01


def test_a_rewritten_history_is_no_anchor() -> None:
    """When an earlier message changed, nothing is taken over from the last usage."""
    estimator = Estimator()
    request = talk(3)
    learn(estimator, request, answer(10**6))
    changed = request._replace(transcript=request.transcript._replace(marks=(1, 2, 3)))
    anchored, fresh = estimate(estimator, request), estimate(estimator, changed)
    assert anchored.input_likely >= 10**6
    assert fresh.demand.input_practical <= fresh.demand.input_hard < 10**6


def test_output_is_learned_and_a_cut_answer_counts_for_more() -> None:
    """Three answers give a learned bound; an answer that our own cap ended doubles what it shows."""
    estimator, request = Estimator(), talk(1)
    for output in (100, 110, 120):
        learn(estimator, request, answer(50, output), crowd=7)
    found = estimate(estimator, request)
    assert 120 < found.demand.learned <= 132
    assert found.crowd == 7
    assert found.output_likely == 110
    learn(estimator, request, answer(50, 130), cut=True)
    assert estimate(estimator, request).demand.learned > 260


def test_what_says_nothing_teaches_nothing() -> None:
    """An attempt without usage is not learned from."""
    estimator, request = Estimator(), talk(1)
    learn(estimator, request, Answer(Status.ERROR))
    assert estimate(estimator, request).demand.learned is None
    assert estimator.dump() == {}


def test_thinking_keeps_its_room() -> None:
    """The floor is above a thinking budget, and above what a reasoning model was seen to think."""
    assert estimate(Estimator(), talk(1, thinking={"type": "enabled", "budget_tokens": 700})).demand.floor == 956
    estimator = Estimator()
    request = read("chat", {"model": "o3", "messages": [{"role": "user", "content": TEXT}]}, None)
    assert estimate(estimator, request).demand.floor == 1_024 + 256
    for _ in range(3):
        learn(estimator, request, answer(50, 500, reasoning_tokens=400))
    assert estimate(estimator, request).demand.floor == 400 + 256


def test_what_was_learned_survives() -> None:
    """Dump and load give the same estimates; only what changed is dumped; newer knowledge wins."""
    estimator, request = Estimator(), talk(1)
    for _ in range(3):
        learn(estimator, request, answer(90, 40), crowd=3)
    kept = estimator.dump()
    assert estimator.dump() == {}
    other = Estimator()
    other.load(kept)
    # The anchors are of this process's conversations and do not travel: ask as another conversation.
    asked = request._replace(transcript=request.transcript._replace(key=1))
    assert estimate(other, asked) == estimate(estimator, asked)
    other.load({key: value.replace(b"40.0", b"90.0") for key, value in kept.items()})
    assert estimate(other, asked) == estimate(estimator, asked)


def test_conversations_are_forgotten_in_turn(monkeypatch: Any) -> None:
    """Anchors do not grow without end."""
    monkeypatch.setattr(estimate_module, "ANCHORS", 5)
    estimator, request = Estimator(), talk(1)
    for n in range(20):
        estimator.learn(request, "w", n, answer(50), 1, cut=False)
    assert sorted(estimator._anchors) == list(range(15, 20))


def test_threads_learn_together() -> None:
    """Learning and estimating from many threads loses nothing."""
    estimator, request = Estimator(), talk(1)

    def work() -> None:
        for _ in range(50):
            learn(estimator, request, answer(50, 100))
            estimate(estimator, request)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert estimate(estimator, request).demand.learned == 100


def test_the_dearest_bucket_is_priced() -> None:
    """A request that may write to the cache, reach a dearer tier or search the web is priced as if it did."""
    prices = PriceList()
    haiku = prices.card("anthropic", "claude-haiku-5-5", day=DAY)
    assert haiku is not None
    plain = talk(1)
    cached = talk(1, cache_control={"type": "ephemeral", "ttl": "1h"})
    assert cached.cache_write == "1h"
    assert rate(plain, haiku, 100_000)[1:] == (100_000, 500_000)
    assert rate(plain, haiku, 100_001)[1:] == (500_000, 2_500_000)
    assert rate(cached, haiku, 100_001).input_pico == 1_000_000
    searching = talk(1, tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}])
    assert rate(searching, haiku, 10).fixed_nusd == 20_000_000


@given(st.lists(st.floats(0, 10**6), min_size=1, max_size=3 * SIZE))
def test_a_window_knows_its_extremes(values: list[float]) -> None:
    """Highest, mean and the bound above them are those of the last 200 values, however they came."""
    window = Window(values[:2])
    for value in values[2:]:
        window.add(value)
    last = values[-SIZE:]
    outlook = window.outlook()
    assert outlook is not None
    mean, high = outlook
    assert high >= window.largest() == max(last)
    assert abs(mean - sum(last) / len(last)) <= 1e-6 * max(1.0, *last)
    assert window.values() == last
    assert window.count == len(last)


def test_an_empty_window_knows_nothing() -> None:
    """Nothing seen is None, not zero."""
    window = Window()
    assert (window.outlook(), window.largest(), window.count) == (None, 0.0, 0)
    assert Window([5]).outlook() == (5, 10)
    assert Window([5, 5, 5]).outlook() == (5, 5)


def test_the_learned_bound_is_rarely_broken() -> None:
    """On outputs of a heavy tail the next one exceeds the bound in less than three of a hundred cases, once warm."""
    dice, window, broken = random.Random(5), Window(), 0
    for n in range(3_000):
        value = dice.lognormvariate(5, 0.8)
        outlook = window.outlook()
        if n >= 50 and outlook is not None and value > outlook[1]:
            broken += 1
        window.add(value)
    assert broken / 2_950 < 0.03
