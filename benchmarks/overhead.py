"""How much CPU a guard adds to one model call, without any network, ours beside two others.

    python -m benchmarks.overhead            # tables
    python -m benchmarks.overhead --quick    # fewer rounds, for a look
    python -m benchmarks.overhead --json     # for a program

Five parts. `flow`: begin, open and close of one call with a request that is measured already, no SDK, in a run
limited in dollars and tokens. `adapter`: a call of the SDK's own client, wrapped, less the same call bare, over an
in-process transport that answers at once. `in flight`: ten thousand calls open at once on an event loop.
`measuring`: the tokens of a new message, which is linear in its length. `growth`: what a run keeps of an ended call.

Times are CPU of the calling thread, unless a line says otherwise. Every answer and every charge is checked once
before it is timed. The rivals write no durable record, so both of our figures are shown, with and without one.
For the adapters `median` is the median call with a guard less the median bare call, `min` the same of the fastest
calls, `p90` of the blocks of twenty calls that take turns. Elsewhere the three are of the means of whole rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import anthropic
import httpx2
import openai

import bursar
from benchmarks.common import as_json, facts, own_ledger, show_facts, spread, table
from bursar import Budget
from bursar.clients.guard import Guard
from bursar.clients.transcript import measure
from bursar.pricing.tokens import COUNTER
from bursar.runs.frames import make_who
from bursar.runs.process import process
from bursar.words.events import Answer, ModelRequest, Status, Usage, UsageSource
from bursar.words.records import Record

BARS = {
    "flow, no row": "<= 20 us",
    "flow, committed row": "<= 60 us",
    "bytes a call in flight": "<= 2048",
}
PLENTY = Budget(usd="1000000", tokens=10**14)
MODELS = {"chat": "gpt-4o", "messages": "claude-3-5-sonnet-20241022"}
"""Models that all three of us have a price for; the others know no newer Claude."""
PROMPT = "Where is the order of customer 17, and when will it arrive? Answer in one paragraph. "
CALL_NUSD = 1_000 * 2_500 + 200 * 10_000
"""1,000 tokens in and 200 out of gpt-4o, in nano-dollars."""


@dataclass
class Line:
    """One measurement: microseconds a call, or bytes a call."""

    part: str
    what: str
    unit: str
    median: float
    min: float
    p90: float
    n: int
    rounds: int
    bar: str = ""
    ratio: str = ""


class Drop:
    """A sink that keeps nothing."""

    def write(self, record: Record, posting: object = None) -> None:
        """Drop it."""

    def try_write(self, record: Record, posting: object = None) -> bool:
        """Drop it."""
        return True


@contextmanager
def sink_of(kind: str) -> Iterator[None]:
    """Records go nowhere ("none") or to the ledger file ("row")."""
    owner = process()
    kept = owner.desk
    owner.desk = kept._replace(sink=Drop()) if kind == "none" else kept
    try:
        yield
    finally:
        owner.desk = kept


def line(part: str, what: str, values: list[float], n: int, *, unit: str = "us", bar: str = "") -> Line:
    """A line of the table from the rounds of one measurement."""
    found = spread(values)
    return Line(part, what, unit, found["median"], found["min"], found["p90"], n, len(values), bar)


# -- the flow alone ------------------------------------------------------------------------------------------------


def prepared() -> list[ModelRequest]:
    """64 requests that are measured already: 8 conversations of 8 steps, each step two messages longer."""
    made = []
    for n in range(8):
        messages = [{"role": "user", "content": f"{n} {m} {PROMPT * 5}"} for m in range(16)]
        for step in range(2, 17, 2):
            script = measure(messages[:step], [])
            made.append(ModelRequest("openai", "gpt-4o", "chat", False, script, 1_000, 16_384, cache_write="30m"))
    return made


def answers(count: int) -> list[Answer]:
    """So many answers, the first of 1,000 tokens in and 200 out, each with an id of its own."""
    made = []
    for n in range(count):
        usage = Usage(input_tokens=1_000 + n * 37 % 101, output_tokens=200 + n * 37 % 101)
        made.append(
            Answer(
                Status.OK, usage=usage, usage_source=UsageSource.PROVIDER, response_model="gpt-4o",
                response_id=f"chatcmpl-{n:012d}", request_id=f"req_{n:016d}", http_status=200, finish_reason="stop",
                tier_served="default",
            )
        )  # fmt: skip
    return made


def one_call(guard: Guard, request: ModelRequest, answer: Answer) -> None:
    """What an adapter asks of the flow for one call."""
    call = guard.begin(request)
    attempt = guard.open(call)
    guard.close(call, attempt, answer)


def check_flow(guard: Guard, request: ModelRequest, answer: Answer) -> None:
    """One call is charged at its price, holds nothing afterwards, and has its row."""
    with bursar.run("check", PLENTY) as run:
        one_call(guard, request, answer)
        spend = run.spend
    if spend.settled.nusd != CALL_NUSD or spend.settled.tokens != 1_200 or any(spend.held):
        raise SystemExit(f"the flow charges {spend}, not {CALL_NUSD} nano-dollars and 1,200 tokens")
    rows = process().ledger._open().execute("SELECT count(*), sum(cost_nusd) FROM model_call")
    if rows != [(1, CALL_NUSD)]:
        raise SystemExit(f"the ledger has {rows} after one call")


def flow_lines(n: int, rounds: int) -> list[Line]:
    """CPU of the flow, with and without a row; the file's own thread and the wall clock beside it."""
    guard = Guard(make_who(None), [])
    requests, ended = prepared(), answers(n)
    check_flow(guard, requests[0], ended[0])
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for kind, name in (("none", "flow, no row"), ("row", "flow, committed row")):
            thread, whole, wall = flow_round(guard, requests, ended, kind)
            found.setdefault(name, []).append(thread)
            if kind == "row":
                found.setdefault("  and all threads (checkpoints)", []).append(whole)
                found.setdefault("  and wall clock", []).append(wall)
    return [line("flow", name, values, n, bar=BARS.get(name, "")) for name, values in found.items()]


def flow_round(
    guard: Guard, requests: list[ModelRequest], ended: list[Answer], kind: str
) -> tuple[float, float, float]:
    """Microseconds a call of one round: this thread's CPU, all threads' CPU, wall clock."""
    n = len(ended)
    with sink_of(kind), bursar.run("flow", PLENTY):
        for i in range(200):
            one_call(guard, requests[i & 63], ended[i])
        gc.collect()
        wall, whole, thread = time.perf_counter_ns(), time.process_time_ns(), time.thread_time_ns()
        for i in range(n):
            one_call(guard, requests[i & 63], ended[i])
        thread, whole = time.thread_time_ns() - thread, time.process_time_ns() - whole
        wall = time.perf_counter_ns() - wall
    return thread / n / 1_000, whole / n / 1_000, wall / n / 1_000


# -- the adapters --------------------------------------------------------------------------------------------------


def transport() -> httpx2.MockTransport:
    """A provider in this process: it answers at once, 1,000 tokens in and 200 out."""
    head = {"content-type": "application/json", "x-request-id": "req_1", "request-id": "req_1"}
    bodies = {api: json.dumps(body_of(api)).encode() for api in MODELS}

    def handle(request: httpx2.Request) -> httpx2.Response:
        api = "messages" if request.url.path.endswith("/messages") else "chat"
        return httpx2.Response(200, headers=head, content=bodies[api])

    return httpx2.MockTransport(handle)


def body_of(api: str) -> dict[str, Any]:
    """The answer in the vendor's words."""
    if api == "messages":
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": MODELS[api], "stop_reason": "end_turn",
            "stop_sequence": None, "content": [{"type": "text", "text": PROMPT}],
            "usage": {"input_tokens": 1_000, "output_tokens": 200, "service_tier": "standard"},
        }  # fmt: skip
    message = {"role": "assistant", "content": PROMPT, "refusal": None}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODELS[api], "service_tier": "default",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 1_000, "completion_tokens": 200, "total_tokens": 1_200},
    }  # fmt: skip


def client_of(api: str) -> Any:
    """The SDK's own client over the in-process transport."""
    http = httpx2.Client(transport=transport())
    if api == "messages":
        return anthropic.Anthropic(base_url="http://provider", api_key="x", http_client=http, max_retries=0)
    return openai.OpenAI(base_url="http://provider/v1", api_key="x", http_client=http, max_retries=0)


def asked(api: str, fresh: str | None) -> dict[str, Any]:
    """One request: four messages that were seen before, and perhaps one of a kilobyte that was not."""
    messages = [{"role": "user" if n % 2 == 0 else "assistant", "content": f"{n} {PROMPT * 5}"} for n in range(4)]
    if fresh is not None:
        messages.append({"role": "user", "content": fresh})
    cap = {"max_tokens": 1_000} if api == "messages" else {"max_completion_tokens": 1_000}
    return {"model": MODELS[api], "messages": messages, **cap}


Send = Callable[[dict[str, Any]], Any]


def bare(api: str, client: Any) -> Send:
    """The SDK's method as it is."""
    create: Callable[..., Any] = client.messages.create if api == "messages" else client.chat.completions.create
    return lambda request: create(**request)


@contextmanager
def sender(who: str, api: str, client: Any) -> Iterator[tuple[Send, Callable[[], float]]]:
    """A way to send a request under one guard, and what that guard says it spent, in dollars."""
    if who == "bare":
        yield bare(api, client), lambda: 0.0
    elif who.startswith("bursar"):
        wrapped = bursar.wrap(client)
        with (
            sink_of("none" if who.endswith("no row") else "row"),
            bursar.run(f"adapter-{api}", PLENTY) as run,
        ):
            yield bare(api, wrapped), lambda: float(run.spend.usd)
    elif who == "shekel":
        import shekel

        with shekel.budget(max_usd=1_000_000, name="bench") as budget:
            yield bare(api, client), lambda: float(budget.spent)
    else:
        yield floe(api, client)


def floe(api: str, client: Any) -> tuple[Send, Callable[[], float]]:
    """floe-guard's documented way: its wrapper round the call site."""
    from floe_guard import BudgetGuard
    from floe_guard.integrations import anthropic as for_anthropic
    from floe_guard.integrations import openai as for_openai

    guard = BudgetGuard(limit_usd=1_000_000)
    wrapper = for_anthropic.guarded_completion if api == "messages" else for_openai.guarded_completion
    return lambda request: wrapper(guard, client, **request), lambda: float(guard.spent_usd)


GUARDS = ("bare", "bursar, no row", "bursar, committed row", "shekel", "floe-guard")


def check_adapter(who: str, api: str, client: Any) -> None:
    """The answer arrives whole and the guard counts what it cost."""
    with sender(who, api, client) as (send, spent):
        answer = send(asked(api, None))
        text = answer.content[0].text if api == "messages" else answer.choices[0].message.content
        cost = {"chat": 0.0045, "messages": 0.006}[api]
        if text != PROMPT or (who != "bare" and abs(spent() - cost) > 1e-9):
            raise SystemExit(f"{who} on {api}: answer {text[:20]!r}, spent {spent()} instead of {cost}")


def adapter_lines(api: str, blocks: int, *, fresh: bool) -> list[Line]:
    """CPU of the wrapped call less that of the bare call, for each guard; blocks of twenty calls take turns."""
    client = client_of(api)
    for who in GUARDS:
        check_adapter(who, api, client)
    cpu: dict[str, list[list[float]]] = {who: [] for who in GUARDS}
    for number in range(blocks):
        turn = number % len(GUARDS)
        for who in GUARDS[turn:] + GUARDS[:turn]:
            cpu[who].append(adapter_block(who, api, client, f"{number} {who}" if fresh else None))
    kind = "new 1 kB message" if fresh else "prompt seen before"
    lines = [line("adapter", f"{api}, bare SDK call, {kind}", [x for block in cpu["bare"] for x in block], 20)]
    lines[0].rounds = blocks
    lines += [difference(f"{api}, {who}, {kind}", cpu[who], cpu["bare"]) for who in GUARDS[1:]]
    ours = lines[1].median
    for each in lines[1:]:
        each.ratio = f"{each.median / ours:.2f}"
    return lines


def difference(what: str, guarded: list[list[float]], without: list[list[float]]) -> Line:
    """Median less median and fastest less fastest of all calls; of the blocks the ninetieth percentile."""
    all_guarded, all_bare = [x for block in guarded for x in block], [x for block in without for x in block]
    added = [statistics.median(a) - statistics.median(b) for a, b in zip(guarded, without, strict=True)]
    median = statistics.median(all_guarded) - statistics.median(all_bare)
    return Line("adapter", what, "us", median, min(all_guarded) - min(all_bare), spread(added)["p90"], 20, len(added))


def adapter_block(who: str, api: str, client: Any, salt: str | None) -> list[float]:
    """Microseconds of this thread's CPU for each of twenty calls."""
    requests = [asked(api, None if salt is None else f"{salt} {i} {PROMPT * 12}"[:1_000]) for i in range(20)]
    taken = []
    with sender(who, api, client) as (send, _):
        for _ in range(3):
            send(asked(api, None))
        for request in requests:
            begun = time.thread_time_ns()
            send(request)
            taken.append((time.thread_time_ns() - begun) / 1_000)
    return taken


# -- many at once --------------------------------------------------------------------------------------------------


async def together(guard: Guard | None, n: int, opened: Callable[[], None]) -> None:
    """So many calls open at once; `opened` is called when all of them are, then they end."""
    requests, ended = prepared(), answers(n)
    release, started = asyncio.Event(), asyncio.Semaphore(0)

    async def one(i: int) -> None:
        if guard is None:
            started.release()
            await release.wait()
            return
        call = guard.begin(requests[i & 63])
        attempt = await guard.aopen(call)
        started.release()
        await release.wait()
        await guard.aclose(call, attempt, ended[i])

    tasks = [asyncio.create_task(one(i)) for i in range(n)]
    for _ in range(n):
        await started.acquire()
    opened()
    release.set()
    await asyncio.gather(*tasks)


def flight_cpu(guard: Guard | None, n: int) -> float:
    """Microseconds of all threads' CPU a call, tasks included."""
    gc.collect()
    with bursar.run("flight", PLENTY) if guard else nullcontext():
        begun = time.process_time_ns()
        asyncio.run(together(guard, n, lambda: None))
        return (time.process_time_ns() - begun) / n / 1_000


def flight_bytes(guard: Guard | None, n: int) -> float:
    """Bytes that Python has allocated for each call while all are open (tracemalloc)."""
    gc.collect()
    seen: list[int] = []
    with bursar.run("flight", PLENTY) if guard else nullcontext():
        tracemalloc.start()
        asyncio.run(together(guard, n, lambda: seen.append(tracemalloc.get_traced_memory()[0])))
        tracemalloc.stop()
    return seen[0] / n


def flight_lines(n: int, rounds: int) -> list[Line]:
    """CPU and memory of calls that are all open at once, less those of tasks that only wait."""
    guard = Guard(make_who(None), [])
    lines = []
    for kind, name in (("none", "no row"), ("row", "committed row")):
        with sink_of(kind):
            added = [flight_cpu(guard, n) - flight_cpu(None, n) for _ in range(rounds)]
        lines.append(line("in flight", f"CPU a call of {n:,} open at once, {name}", added, n))
    with sink_of("none"):
        held = [flight_bytes(guard, n) - flight_bytes(None, n) for _ in range(max(2, rounds // 2))]
    what = "bytes a call in flight"
    lines.append(line("in flight", f"{what} (tracemalloc, {n:,} open)", held, n, unit="B", bar=BARS[what]))
    return lines


def growth_lines(n: int) -> list[Line]:
    """What an open run still keeps of calls that have ended."""
    guard = Guard(make_who(None), [])
    requests, ended = prepared(), answers(n)
    with sink_of("none"), bursar.run("growth", PLENTY):
        for i in range(2_000):
            one_call(guard, requests[i & 63], ended[i % n])
        gc.collect()
        tracemalloc.start()
        for i in range(n):
            one_call(guard, requests[i & 63], ended[i])
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    return [line("growth", "bytes kept of an ended call until its run ends", [kept / n], n, unit="B")]


# -- measuring -----------------------------------------------------------------------------------------------------


def measuring_lines(rounds: int) -> list[Line]:
    """CPU of counting the tokens of a message that was never seen, and of one that was."""
    lines = []
    for size in (1_000, 30_000):
        n = 200 if size == 1_000 else 20
        values, again = [], []
        for number in range(rounds):
            texts = [f"{number} {size} {i} " + PROMPT * (size // len(PROMPT) + 1) for i in range(n)]
            messages = [[{"role": "user", "content": text[:size]}] for text in texts]
            values.append(measuring_round(messages))
            again.append(measuring_round(messages))
        lines.append(line("measuring", f"a new message of {size:,} characters", values, n))
        lines.append(line("measuring", "  the same again", again, n))
    if not COUNTER.ready:
        raise SystemExit("the token ranks were not loaded: the figures would be those of the heuristic")
    return lines


def measuring_round(messages: list[list[dict[str, str]]]) -> float:
    """Microseconds of CPU for one message."""
    begun = time.thread_time_ns()
    for each in messages:
        measure(each, [])
    return (time.thread_time_ns() - begun) / len(messages) / 1_000


# -- all of it -----------------------------------------------------------------------------------------------------


def everything(n: int, rounds: int, concurrent: int) -> list[Line]:
    """All parts, one after the other."""
    lines = flow_lines(n, rounds)
    for api in MODELS:
        lines += adapter_lines(api, rounds * 5, fresh=False)
        lines += adapter_lines(api, rounds * 5, fresh=True)
    lines += flight_lines(concurrent, max(3, rounds // 3))
    lines += growth_lines(n)
    return lines + measuring_lines(rounds)


def show(lines: list[Line]) -> str:
    """The table."""
    heads = ("what", "unit", "median", "min", "p90", "ratio to ours", "bar", "n", "rounds")
    rows = [
        (
            f"{x.part}: {x.what}",
            x.unit,
            f"{x.median:.1f}",
            f"{x.min:.1f}",
            f"{x.p90:.1f}",
            x.ratio,
            x.bar,
            x.n,
            x.rounds,
        )
        for x in lines
    ]
    return table(heads, rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--quick", action="store_true", help="fewer calls and rounds")
    parser.add_argument("--calls", type=int, default=3_000, help="calls of a round of the flow")
    parser.add_argument(
        "--rounds", type=int, default=15, help="rounds of each measurement (adapters: five blocks of 20 calls a round)"
    )
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    n, rounds = (1_000, 5) if given.quick else (given.calls, given.rounds)
    found = facts()
    with own_ledger():
        gc.collect()
        gc.freeze()
        lines = everything(n, rounds, 2_000 if given.quick else 10_000)
    if given.json:
        print(as_json({"facts": found, "bars": BARS, "lines": [asdict(each) for each in lines]}))
    else:
        print(show_facts(found))
        print(show(lines))


if __name__ == "__main__":
    main()
