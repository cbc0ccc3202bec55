"""CPU that recording a call costs its caller, in all and for each chunk of a stream, beside three tracers.

    python -m benchmarks.tracers             # tables, in about two minutes
    python -m benchmarks.tracers --quick     # fewer rounds, for a look
    python -m benchmarks.tracers --json      # for a program

The SDK's own client over an in-process transport that answers at once, bare and with each library attached in the way
that its documentation shows: langsmith's wrapper, logfire's instrumentation, OpenInference's instrumentor. Each is
measured in processes of its own, that take turns; in each, short blocks of calls take turns with blocks of the bare
client's. What counts is the median of all differences, with its interval. What a chunk costs is the difference between
a stream of 220 and one of 20, over 200: the call itself is in both. Times are CPU of the calling thread: what a library
does later on a thread of its own is not in them. What it records goes to an exporter that drops it; ours goes to the
ledger, committed, before the call returns.
"""

from __future__ import annotations

import argparse
import json
import logging
import operator
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import anthropic
import httpx2
import openai

from benchmarks.common import as_json, facts, interval, show_facts, table

LIBRARIES = ("bursar", "langsmith", "logfire", "openinference")
PACKAGES = ("bursar", "langsmith", "logfire", "openinference-instrumentation-openai", "openai", "anthropic")
LONG, SHORT = 220, 20
CHUNKS = LONG - SHORT
PROMPT = "Where is the order of customer 17, and when will it arrive? Answer in one paragraph. " * 10
WORDS = "The order of customer 17 left the warehouse on Monday. " * 20
CHAT: Any = {"model": "gpt-4o", "max_completion_tokens": 400, "messages": [{"role": "user", "content": PROMPT}]}
CLAUDE: Any = {"model": "claude-sonnet-4-5", "max_tokens": 400, "messages": [{"role": "user", "content": PROMPT}]}
EACH = {"chat": 10, "chat long": 1, "chat short": 4, "messages": 10, "messages long": 4, "messages short": 8}
"""Calls in a block of each kind: short blocks, so that one of them at least falls into a quiet moment."""
SHOWN = ("chat", "chat long", "chat chunk", "messages", "messages long", "messages chunk")


def chat_body() -> dict[str, Any]:
    """A plain answer of Chat Completions."""
    usage = {"prompt_tokens": 180, "completion_tokens": 200, "total_tokens": 380}
    message = {"role": "assistant", "content": WORDS}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}], "usage": usage,
    }  # fmt: skip


def chat_events(chunks: int) -> bytes:
    """The same answer as a stream."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06"}

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    body = chat_body()
    said = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": "order "}) for _ in range(chunks))]
    said += [chunk({}, "stop"), {**head, "choices": [], "usage": body["usage"]}]
    return b"".join(f"data: {json.dumps(each)}\n\n".encode() for each in said) + b"data: [DONE]\n\n"


def claude_body() -> dict[str, Any]:
    """A plain answer of Messages."""
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929",
        "content": [{"type": "text", "text": WORDS}], "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 180, "output_tokens": 200},
    }  # fmt: skip


def claude_events(chunks: int) -> bytes:
    """The same answer as a stream."""
    start = {**claude_body(), "content": [], "stop_reason": None, "usage": {"input_tokens": 180, "output_tokens": 1}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "order "}}
    said: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *([delta] * chunks),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 200}},
        {"type": "message_stop"},
    ]
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in said)


def transport() -> httpx2.MockTransport:
    """A network that answers at once; a prompt of one word asks for a short stream."""
    plain = [json.dumps(body).encode() for body in (chat_body(), claude_body())]
    events = [(make(LONG), make(SHORT)) for make in (chat_events, claude_events)]
    kinds = {False: "application/json", True: "text/event-stream"}

    def answer(request: httpx2.Request) -> httpx2.Response:
        stream = b'"stream":true' in request.content.replace(b" ", b"")
        which = int(request.url.path.endswith("/messages"))
        content = events[which][b"customer" not in request.content] if stream else plain[which]
        return httpx2.Response(200, content=content, headers={"content-type": kinds[stream]})

    return httpx2.MockTransport(answer)


def clients() -> tuple[openai.OpenAI, anthropic.Anthropic]:
    """Bare clients of both SDKs."""
    http = httpx2.Client(transport=transport())
    return (
        openai.OpenAI(api_key="x", http_client=http, max_retries=0),
        anthropic.Anthropic(api_key="x", http_client=http, max_retries=0),
    )


def attached(library: str) -> tuple[Any, Any, Callable[[], object], Callable[[], object]]:
    """Both clients as the library's documentation says to attach it, and what switches it on and off for them."""
    gpt, claude = clients()
    if library == "bursar":
        import bursar

        return bursar.wrap(gpt, workflow="bench"), bursar.wrap(claude, workflow="bench"), nothing, nothing
    if library == "langsmith":
        from langsmith import Client
        from langsmith.wrappers import wrap_anthropic, wrap_openai

        extra: Any = {"client": Client(api_url="http://127.0.0.1:9", api_key="x", auto_batch_tracing=True)}
        return wrap_openai(gpt, tracing_extra=extra), wrap_anthropic(claude, tracing_extra=extra), nothing, nothing
    if library == "logfire":
        import logfire

        logfire.configure(send_to_logfire=False, console=False, additional_span_processors=[dropping()])
        logfire.instrument_openai(gpt)
        logfire.instrument_anthropic(claude)
        return gpt, claude, nothing, nothing
    from openinference.instrumentation.anthropic import AnthropicInstrumentor
    from openinference.instrumentation.openai import OpenAIInstrumentor
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider()
    provider.add_span_processor(dropping())
    both = OpenAIInstrumentor(), AnthropicInstrumentor()
    return (
        gpt,
        claude,
        lambda: [each.instrument(tracer_provider=provider) for each in both],
        lambda: [each.uninstrument() for each in both],
    )


def nothing() -> None:
    """Attached to the client itself: there is no switch."""


def dropping() -> Any:
    """A batch processor, as all documentation advises, to an exporter that drops what it gets."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Drop(SpanExporter):  # type: ignore[misc,unused-ignore]  # untyped where it is not installed
        def export(self, spans: Any) -> Any:
            return SpanExportResult.SUCCESS

    return BatchSpanProcessor(Drop())


def calls(gpt: Any, claude: Any) -> dict[str, Callable[[], int]]:
    """One call of each kind; each gives the tokens or chunks that it saw, which are checked."""
    short: Any = {"messages": [{"role": "user", "content": "Where?"}]}

    def chat(**more: Any) -> int:
        return sum(1 for chunk in gpt.chat.completions.create(**CHAT | more, stream=True) if chunk.choices)

    def messages(**more: Any) -> int:
        return sum(1 for _ in claude.messages.create(**CLAUDE | more, stream=True))

    return {
        "chat": lambda: gpt.chat.completions.create(**CHAT).usage.completion_tokens,
        "chat long": chat,
        "chat short": lambda: chat(**short),
        "messages": lambda: claude.messages.create(**CLAUDE).usage.output_tokens,
        "messages long": messages,
        "messages short": lambda: messages(**short),
    }


EXPECTED = {
    "chat": 200, "chat long": LONG + 2, "chat short": SHORT + 2,
    "messages": 200, "messages long": LONG + 5, "messages short": SHORT + 5,
}  # fmt: skip


def right(call: Callable[[], int], expected: int) -> bool:
    """Whether a call gives what it should, also a second time."""
    try:
        return call() == expected == call()
    except Exception:  # noqa: BLE001 - a library that breaks the SDK has no figure
        return False


def cpu_us(call: Callable[[], int], each: int) -> float:
    """Microseconds of this thread's CPU a call."""
    began = time.thread_time_ns()
    for _ in range(each):
        call()
    return (time.thread_time_ns() - began) / each / 1_000


def child(library: str, rounds: int) -> None:
    """Measure one library in this process, in blocks that take turns with the bare client's."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    bare = calls(*clients())
    gpt, claude, on, off = attached(library)
    with_it = calls(gpt, claude)
    found: dict[str, list[float]] = {}
    for kind, each in EACH.items():
        on()
        sound = right(with_it[kind], EXPECTED[kind])
        off()
        assert right(bare[kind], EXPECTED[kind])
        more, less = found.setdefault(kind, []), found.setdefault(f"bare {kind}", [])
        for _ in range(rounds if sound else 0):
            on()
            more.append(cpu_us(with_it[kind], each))
            off()
            less.append(cpu_us(bare[kind], each))
    print(json.dumps(found))
    sys.stdout.flush()
    # Not waiting for anybody's exporter.
    os._exit(0)


def added(library: str, rounds: int) -> dict[str, list[float]]:
    """What calls of each kind take with a library and bare, block by block, in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        extra = {"BURSAR_LEDGER": f"{place}/ledger.db", "BURSAR_CONFIG": "", "LANGSMITH_TRACING": "true"}
        command = [sys.executable, "-m", "benchmarks.tracers", "--child", library, str(rounds)]
        done = subprocess.run(command, env=os.environ | extra, capture_output=True, text=True, check=True)
    figures: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return figures


def differences(found: dict[str, list[float]]) -> dict[str, list[float]]:
    """What each block took more than the bare one beside it; of a chunk, by the two lengths of streams."""
    more = {kind: list(map(operator.sub, found[kind], found[f"bare {kind}"])) for kind in EACH}
    for api in ("chat", "messages"):
        more[f"{api} chunk"] = [
            (a - b) / CHUNKS for a, b in zip(more[f"{api} long"], more[f"{api} short"], strict=False)
        ]
    return more


def least(found: dict[str, list[float]], prefix: str = "") -> dict[str, float | None]:
    """The quickest block of each kind: what a call takes where nobody else has the machine."""
    quick: dict[str, float | None] = {kind: min(found[prefix + kind], default=None) for kind in EACH}
    for api in ("chat", "messages"):
        long, short = quick[f"{api} long"], quick[f"{api} short"]
        quick[f"{api} chunk"] = None if long is None or short is None else (long - short) / CHUNKS
    return quick


def number(value: float | None) -> str:
    """A figure, or that there is none."""
    return "breaks" if value is None else f"{value:,.{0 if abs(value) >= 20 else 1}f}"


def medians(found: dict[str, list[float]]) -> list[str]:
    """Medians with their intervals, in the order of the table."""
    more, cells = differences(found), []
    for kind in SHOWN:
        low, high = interval(more[kind]) if more[kind] else (0.0, 0.0)
        median = number(statistics.median(more[kind])) if more[kind] else "breaks"
        cells.append(f"{median} ({number(low)} to {number(high)})" if more[kind] else median)
    return cells


def quickest(found: dict[str, list[float]]) -> list[str]:
    """The quickest block with the library less the quickest bare one, in the order of the table."""
    with_it, bare = least(found), least(found, "bare ")
    both = ((with_it[kind], bare[kind]) for kind in SHOWN)
    return [number(None if more is None or less is None else more - less) for more, less in both]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        child(chosen.child[0], int(chosen.child[1]))
    turns, rounds = (1, 8) if chosen.quick else (5, 12)
    machine = facts()
    seen: dict[str, dict[str, list[float]]] = {library: {} for library in LIBRARIES}
    for _ in range(turns):
        for library in LIBRARIES:
            for kind, values in added(library, rounds).items():
                seen[library].setdefault(kind, []).extend(values)
    versions = {name: version(name) for name in PACKAGES}
    if chosen.json:
        print(as_json({"facts": machine, "versions": versions, "blocks": turns * rounds, "us_of_cpu": seen}))
        return
    heads = ["", *(kind.replace("long", f"stream of {LONG}") for kind in SHOWN)]
    print(show_facts(machine))
    print(", ".join(f"{name} {found}" for name, found in versions.items()))
    print(f"\nus of CPU added: median of {turns * rounds} differences in {turns} processes (its 95 % interval)")
    print(table(heads, [[library, *medians(found)] for library, found in seen.items()]))
    print("\nus of CPU added: the quickest block with it less the quickest bare one")
    bare = least({kind: [v for found in seen.values() for v in found[kind]] for kind in seen["bursar"]}, "bare ")
    rows = [[library, *quickest(found)] for library, found in seen.items()]
    print(table(heads, [*rows, ["(bare)", *(number(bare[kind]) for kind in SHOWN)]]))


if __name__ == "__main__":
    main()
