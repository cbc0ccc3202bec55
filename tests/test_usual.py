"""The usual call goes a short way round the flow: whatever is random about it, both ways come to the same end."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from bursar.clients.requests import read
from bursar.flow.call import Call, Frame, World
from bursar.flow.model_call import close, open
from bursar.flow.terms import Deadline, Term
from bursar.guards.lineage import asked_of
from bursar.guards.retries import RetryLimits
from bursar.pricing.estimate import Estimator
from bursar.runs.drive import Desk, drive
from bursar.runs.earlier import Earlier
from bursar.runs.process import process
from bursar.runs.usual import admit, charge_usual, conclude, open_usual
from bursar.settings.over import parse_over
from bursar.stores.memory import MemoryStore
from bursar.words.asks import Asks
from bursar.words.errors import Stopped
from bursar.words.events import (
    NOTHING,
    Answer,
    ModelRequest,
    RetryReason,
    SideUsage,
    Status,
    Transcript,
    Usage,
    UsageSource,
)
from bursar.words.ports import Scope
from bursar.words.records import ModelCall, Record, Tags, Who
from bursar.words.tools import ToolAsk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bursar.flow.call import Attempt

MODELS = (
    ("chat", "gpt-4o"), ("chat", "o3"), ("chat", "nobody-has-heard-of-it"), ("messages", "claude-3-5-sonnet-20241022"),
)  # fmt: skip
OUTER, INNER = Scope("run", "outer"), Scope("budget", "inner")


@dataclass
class Hand:
    """A clock that is moved by hand: two worlds can be at the same time."""

    now_us: int = 1_000_000

    def today(self) -> date:
        return date(2026, 11, 22)

    def wall_us(self) -> int:
        return self.now_us

    def monotonic_us(self) -> int:
        return self.now_us


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[Record] = []

    def write(self, record: Record, posting: object = None) -> None:
        del posting
        self.rows.append(record)

    def try_write(self, record: Record, posting: object = None) -> bool:
        self.write(record, posting)
        return True


class Side:
    """One of the two ways, in a world of its own."""

    def __init__(self, limits: list[dict[str, int]], frame: dict[str, Any], *, short: bool) -> None:
        self.short, self.clock, self.sink, self.store = short, Hand(), Kept(), MemoryStore()
        self.world = World(self.clock, process().world.prices, Estimator(), Earlier())
        self.desk = Desk(self.store, self.sink, self.store)
        path = (OUTER, INNER)[: len(limits)]
        for scope, limit in zip(path, limits, strict=True):
            self.store.define(scope, limit)
        over = frame.pop("terms", None)
        if over is not None and limits:
            # A limit that refuses nothing is not the store's business.
            self.store.define(OUTER, {} if over == "warn" else limits[0])
            frame["terms"] = (Term(OUTER, {"tokens": 3_000}, parse_over(over), {"tokens": 900}, lambda _: None),)
        self.frame = Frame(Who(Tags("usual"), None, "session"), path, asks=Asks(), **frame)
        self.calls: list[tuple[Call, Attempt]] = []
        self.said: list[Any] = []

    def begin(self, name: str, request: ModelRequest) -> Call:
        return Call(name, request, self.frame, asked=asked_of(request), retries=2)

    def open(self, call: Call) -> None:
        try:
            attempt = admit(call, self.world, self.desk) if self.short else drive(open(call, self.world), self.desk)
        except Stopped as stop:
            self.said.append((type(stop), str(stop)))
            return
        self.said.append(replace(attempt))
        self.calls.append((call, attempt))

    def close(self, place: int, answer: Answer) -> None:
        call, attempt = self.calls.pop(place)
        if self.short:
            record = conclude(call, attempt, answer, self.world, self.desk)
        else:
            record = drive(close(call, attempt, answer, self.world), self.desk)
        self.said.append((record, call.flags, call.counted, call.lineage))
        if answer.charge != "usage" and answer.retryable and call.attempts < 3:
            self.open(call)

    def books(self) -> Any:
        return [self.store.balance(scope) for scope in self.frame.path], self.store.audit(), sorted(self.store.scan())


def bodies(dice: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Conversations that grow, each with one model; some are asked again."""
    said: dict[tuple[str, str], list[dict[str, str]]] = {model: [] for model in MODELS}
    while True:
        api, model = dice.choice(MODELS)
        messages = said[api, model]
        if dice.random() < 0.8:
            role = "user" if len(messages) % 2 == 0 else "assistant"
            messages.append({"role": role, "content": "word " * dice.randint(1, 60)})
        body: dict[str, Any] = {"model": model, "messages": list(messages), "stream": dice.random() < 0.3}
        if api == "messages" or dice.random() < 0.7:
            body["max_tokens"] = dice.choice([20, 300, 2_000])
        if dice.random() < 0.2:
            body["service_tier"] = dice.choice(["flex", "auto", "priority"])
        yield api, body
        while dice.random() < 0.3:
            yield api, body


def answer_of(dice: random.Random, request: ModelRequest) -> Answer:
    """How the provider may end it."""
    kind = dice.random()
    if kind < 0.2:
        return Answer(Status.ERROR, charge="release", http_status=429, retryable=True, error_type="429")
    if kind < 0.25:
        return Answer(Status.ERROR, charge="input", retryable=True, retry_after_us=dice.choice([5, 500_000_000]))
    if kind < 0.3:
        return Answer(Status.ERROR, charge="bound", error_type="Timeout")
    if kind < 0.35:
        return Answer(Status.CANCELLED, charge="seen", output_seen=dice.randint(0, 400))
    into, out = dice.randint(1, 400), dice.randint(0, 400)
    cached = dice.randint(0, into) if dice.random() < 0.4 else 0
    written = dice.randint(0, into - cached) if dice.random() < 0.3 else 0
    usage = Usage(into, out, cached, cache_write_5m_tokens=written, reasoning_tokens=out // 2 * dice.randint(0, 1))
    if dice.random() < 0.1:
        usage = usage._replace(web_searches=2, audio_input_tokens=into // 2)
    answer = Answer(
        Status.OK,
        usage,
        UsageSource.PROVIDER,
        response_model=dice.choice([request.model, None, "gpt-4o-2024-08-06"]),
        response_id="id",
        http_status=200,
        truncated=dice.random() < 0.1,
        tier_served=dice.choice([None, "default", "flex", "batch"]),
        speed=dice.choice([None, None, "fast"]),
        retry_after_us=dice.choice([None, None, None, 500_000_000]),
    )
    if dice.random() < 0.1:
        answer = answer._replace(side=(SideUsage("compaction", None, Usage(20, 5)),), flags=("iterations_unclear",))
    if dice.random() < 0.1:
        answer = answer._replace(tool_calls=1, asked=(ToolAsk("look", "t1", None, "hash", nusd=700),))
    return answer


def setting_of(dice: random.Random) -> tuple[list[dict[str, int]], dict[str, Any]]:
    """Limits from none to scarce, and what else a frame may have."""
    limit = dice.choice([10**12, 10**12, 60_000, 3_000])
    limits = dice.choice([[], [{"tokens": limit}], [{"usd": limit * 1_000}, {"tokens": limit, "model_calls": 40}]])
    frame: dict[str, Any] = {"limits_usd": len(limits) == 2, "lenient_usd": dice.random() < 0.5}
    extra = dice.choice(["", "", "", "", "observe", "hard", "terms", "retries", "deadline"])
    if extra in ("observe", "hard"):
        frame[extra] = True
    elif extra == "terms":
        frame[extra] = dice.choice(["deny", "warn"])
    elif extra == "retries":
        frame[extra] = RetryLimits(2, None, 60_000_000)
    elif extra == "deadline":
        frame[extra] = Deadline(OUTER, 10**9, 10**9)
    return limits, frame


@pytest.mark.filterwarnings("ignore::bursar.BursarWarning")
@pytest.mark.parametrize("seed", range(80))
def test_both_ways_come_to_the_same_end(seed: int) -> None:
    """Sixty random calls, several open at once: the same grants and refusals, rows, balances and lessons."""
    dice = random.Random(seed)
    limits, frame = setting_of(dice)
    short, long = (Side(limits, dict(frame), short=way) for way in (True, False))
    asked = bodies(dice)
    for number in range(60):
        api, body = next(asked)
        request = read(api, body, None)
        for side in (short, long):
            side.clock.now_us += 1_000
            side.open(side.begin(f"op{number}", request))
        while short.calls and (len(short.calls) > 4 or dice.random() < 0.6):
            place = dice.randrange(len(short.calls))
            answer = answer_of(dice, short.calls[place][0].request)
            for side in (short, long):
                side.clock.now_us += 1_000
                side.close(place, answer)
    assert short.said == long.said
    assert short.sink.rows == long.sink.rows
    assert short.books() == long.books()
    assert short.world.estimator.dump() == long.world.estimator.dump()


def test_the_short_way_is_gone_where_there_is_plenty_and_nowhere_else() -> None:
    """Else the comparison above would compare the flow with itself."""
    request = read("chat", {"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}, None)
    answer = Answer(Status.OK, Usage(9, 9), UsageSource.PROVIDER)
    plenty, none = Side([{"tokens": 10**9}], {}, short=True), Side([], {}, short=True)
    for side in (plenty, none):
        call = side.begin("op", request)
        attempt = open_usual(call, side.world, side.store)
        assert attempt is not None
        assert attempt.reserved is (side is plenty)
        assert charge_usual(call, attempt, answer, side.world, side.store) is not None
        assert charge_usual(call, attempt, answer, side.world, side.store) is None
    scarce = Side([{"tokens": 200}], {}, short=True)
    assert open_usual(scarce.begin("op", request), scarce.world, scarce.store) is None
    assert scarce.store.balance(OUTER).held == NOTHING


HINDRANCES: dict[str, tuple[str, Any]] = {
    "a tag is missing": ("call", {"missing": ("owner",)}),
    "a verdict is to be noted": ("call", {"notes": (object(),)}),
    "loops were looked for": ("call", {"loops": object()}),
    "others share a limit": ("call", {"shared": (Scope("env", "production", "day:2026-11-22"),)}),
    "it is a batch": ("call", {"bulk": object()}),
    "it was sent before": ("call", {"attempts": 1}),
    "a cap on retries": ("frame", {"retries": RetryLimits(2, None, 1)}),
    "gates": ("frame", {"gates": object()}),
    "a deadline": ("frame", {"deadline": Deadline(OUTER, 10**9, 10**9)}),
    "a mark to speak at": ("frame", {"terms": (Term(OUTER, {}, parse_over("deny"), {}, None),)}),
    "a reserve": ("frame", {"reserves": (object(),)}),
    "a last call": ("frame", {"final": (object(),)}),
}


@pytest.mark.parametrize("what", HINDRANCES)
def test_whatever_else_there_is_about_a_call_is_left_to_the_flow(what: str) -> None:
    """Nothing is held for it on the short way, and nothing charged."""
    request = read("chat", {"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}, None)
    side = Side([{"tokens": 10**9}], {}, short=True)
    call = side.begin("op", request)
    where, given = HINDRANCES[what]
    for name, value in given.items():
        setattr(call if where == "call" else side.frame, name, value)
    assert open_usual(call, side.world, side.store) is None
    assert side.store.balance(OUTER).holds == 0


@pytest.mark.parametrize("what", ["grown", "shared", "terms"])
def test_an_end_that_is_more_than_a_charge_is_left_to_the_flow(what: str) -> None:
    """Child holds to give back, limits of others to post to, marks to speak at."""
    request = read("chat", {"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}, None)
    side = Side([{"tokens": 10**9}], {}, short=True)
    call = side.begin("op", request)
    attempt = open_usual(call, side.world, side.store)
    assert attempt is not None
    if what == "grown":
        attempt.grown = ("op/0+1",)
    elif what == "shared":
        call.shared = (Scope("env", "production", "day:2026-11-22"),)
    else:
        side.frame.terms = (Term(OUTER, {}, parse_over("deny"), {}, None),)
    answer = Answer(Status.OK, Usage(9, 9), UsageSource.PROVIDER)
    assert charge_usual(call, attempt, answer, side.world, side.store) is None
    assert not attempt.closed
    assert side.store.balance(OUTER).holds == 1


def test_a_row_has_every_field() -> None:
    """It is made without its defaults: one that is forgotten would be missing."""
    side = Side([{"tokens": 10**9}], {}, short=True)
    request = read("chat", {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}, None)
    side.open(side.begin("op", request))
    side.close(0, Answer(Status.OK, Usage(9, 9), UsageSource.PROVIDER))
    (row,) = side.sink.rows
    assert [name.name for name in fields(ModelCall) if not hasattr(row, name.name)] == []


def test_a_failure_after_the_hold_leaves_nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong between the hold and the sending gives the hold back."""

    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("bursar.runs.usual.follow", broken)
    side = Side([{"tokens": 10**9}], {}, short=True)
    request = read("chat", {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}, None)
    with pytest.raises(MemoryError):
        side.open(side.begin("op", request))
    assert side.store.balance(OUTER).held == NOTHING


def test_a_row_says_what_was_asked_and_what_was_answered() -> None:
    """Many of its fields are taken out of request and answer together: each must end up where it belongs."""
    asked = ModelRequest(
        "openai", "gpt-4o", "responses", stream=True, transcript=Transcript((3, 4), (1, 2), system_hash="s", tools_hash="t"),
        cap=70, cap_default=99, host="host", service_tier="auto", speed="slow", tools_offered=5, deferred=None,
    )  # fmt: skip
    answer = Answer(
        Status.ERROR, Usage(9, 8), UsageSource.PROVIDER, response_model="gpt-4o", response_id="id", request_id="req",
        http_status=500, error_type="Odd", retry_reason=RetryReason.OTHER, finish_reason="stop", tool_calls=2,
        tier_served="default", ttft_us=6,
    )  # fmt: skip
    side = Side([{"tokens": 10**9}], {}, short=True)
    call = side.begin("op", asked)
    side.open(call)
    attempt = side.calls[0][1]
    side.close(0, answer)
    (row,) = side.sink.rows
    assert isinstance(row, ModelCall)
    told = ("status", "response_model", "response_id", "request_id", "http_status", "error_type", "retry_reason",
            "finish_reason", "tool_calls", "tier_served", "ttft_us", "usage")  # fmt: skip
    assert {name: getattr(row, name) for name in told} == {name: getattr(answer, name) for name in told}
    assert (row.provider, row.request_model, row.host, row.tier_requested, row.speed, row.tools_offered) == (
        "openai", "gpt-4o", "host", "auto", "slow", 5,
    )  # fmt: skip
    assert (row.path, row.operation, row.messages, row.max_tokens, row.sent_max_tokens) == ("stream", "chat", 2, 70, 70)
    assert (row.system_hash, row.tools_hash, row.held_tokens) == ("s", "t", attempt.hold.tokens)
    assert row.est_input_tokens == attempt.estimate.input_likely


def test_an_estimate_reads_each_part_of_a_request_where_it_stands() -> None:
    """They are taken out together: thinking, choices and what may be done about the cap are not mistaken."""
    script = Transcript((10,), (1,), utf8_bytes=40)
    asked = ModelRequest(
        "openai", "o3", "chat", stream=False, transcript=script, cap=None, cap_default=900, thinking=300, clampable=False,
        choices=3,
    )  # fmt: skip
    demand = Estimator().estimate(asked, "usual", 0, None).demand
    assert (demand.cap, demand.choices, demand.clampable) == (900, 3, False)
    assert (demand.floor, demand.least) == (300 + 256, 300 + 16)
    assert Estimator().estimate(asked._replace(cap=50), "usual", 0, None).demand.cap == 50
