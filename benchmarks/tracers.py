"""CPU that recording a call costs its caller, in all and for each chunk of a stream, beside three tracers.

    python -m benchmarks.tracers             # tables
    python -m benchmarks.tracers --quick     # fewer rounds, for a look
    python -m benchmarks.tracers --json      # for a program

The SDK's own client over an in-process transport that answers at once, bare and with each library attached in the way
that its documentation shows: langsmith's wrapper, logfire's instrumentation, OpenInference's instrumentor. Each is
measured in processes of its own, that take turns; in each, blocks of calls take turns with blocks of the bare
client's, and the median of the differences counts. Times are CPU of the calling thread: what a library does later on
a thread of its own is not in them. What it records goes to an exporter that drops it; ours goes to the ledger,
committed, before the call returns.
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

from benchmarks.common import as_json, facts, table

LIBRARIES = ("bursar", "langsmith", "logfire", "openinference")
PACKAGES = ("bursar", "langsmith", "logfire", "openinference-instrumentation-openai", "openai", "anthropic")
CHUNKS = 200
PROMPT = "Where is the order of customer 17, and when will it arrive? Answer in one paragraph. " * 10
WORDS = "The order of customer 17 left the warehouse on Monday. " * 20
CHAT: Any = {"model": "gpt-4o", "max_completion_tokens": 400, "messages": [{"role": "user", "content": PROMPT}]}
CLAUDE: Any = {"model": "claude-sonnet-4-5", "max_tokens": 400, "messages": [{"role": "user", "content": PROMPT}]}
KINDS = ("chat", "chat stream", "messages", "messages stream")


def chat_body() -> dict[str, Any]:
    """A plain answer of Chat Completions."""
    usage = {"prompt_tokens": 180, "completion_tokens": 200, "total_tokens": 380}
    message = {"role": "assistant", "content": WORDS}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}], "usage": usage,
    }  # fmt: skip


def chat_events() -> bytes:
    """The same answer as a stream of `CHUNKS` chunks."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06"}

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    body = chat_body()
    said = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": "order "}) for _ in range(CHUNKS))]
    said += [chunk({}, "stop"), {**head, "choices": [], "usage": body["usage"]}]
    return b"".join(f"data: {json.dumps(each)}\n\n".encode() for each in said) + b"data: [DONE]\n\n"


def claude_body() -> dict[str, Any]:
    """A plain answer of Messages."""
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929",
        "content": [{"type": "text", "text": WORDS}], "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 180, "output_tokens": 200},
    }  # fmt: skip


def claude_events() -> bytes:
    """The same answer as a stream of `CHUNKS` chunks."""
    start = {**claude_body(), "content": [], "stop_reason": None, "usage": {"input_tokens": 180, "output_tokens": 1}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "order "}}
    said: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *([delta] * CHUNKS),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 200}},
        {"type": "message_stop"},
    ]
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in said)


def transport() -> httpx2.MockTransport:
    """A network that answers at once."""
    plain = [json.dumps(body).encode() for body in (chat_body(), claude_body())]
    events = [chat_events(), claude_events()]
    kinds = {False: "application/json", True: "text/event-stream"}

    def answer(request: httpx2.Request) -> httpx2.Response:
        stream = b'"stream":true' in request.content.replace(b" ", b"")
        which = int(request.url.path.endswith("/messages"))
        content = events[which] if stream else plain[which]
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
    return {
        "chat": lambda: gpt.chat.completions.create(**CHAT).usage.completion_tokens,
        "chat stream": lambda: sum(1 for c in gpt.chat.completions.create(**CHAT, stream=True) if c.choices),
        "messages": lambda: claude.messages.create(**CLAUDE).usage.output_tokens,
        "messages stream": lambda: sum(1 for _ in claude.messages.create(**CLAUDE, stream=True)),
    }


EXPECTED = {"chat": 200, "chat stream": CHUNKS + 2, "messages": 200, "messages stream": CHUNKS + 5}


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


def child(library: str, rounds: int, each: int) -> None:
    """Measure one library in this process, in blocks that take turns with the bare client's."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    bare = calls(*clients())
    gpt, claude, on, off = attached(library)
    with_it = calls(gpt, claude)
    found: dict[str, Any] = {}
    for kind in KINDS:
        on()
        sound = right(with_it[kind], EXPECTED[kind])
        off()
        assert right(bare[kind], EXPECTED[kind])
        more, less = [], []
        for _ in range(rounds if sound else 0):
            on()
            more.append(cpu_us(with_it[kind], each))
            off()
            less.append(cpu_us(bare[kind], each))
        found[kind] = statistics.median(map(operator.sub, more, less)) if sound else None
        found[f"bare {kind}"] = statistics.median(less) if less else None
    print(json.dumps(found))
    sys.stdout.flush()
    # Not waiting for anybody's exporter.
    os._exit(0)


def added(library: str, rounds: int, each: int) -> dict[str, float | None]:
    """What a library adds to each kind of call, in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        extra = {"BURSAR_LEDGER": f"{place}/ledger.db", "BURSAR_CONFIG": "", "LANGSMITH_TRACING": "true"}
        command = [sys.executable, "-m", "benchmarks.tracers", "--child", library, str(rounds), str(each)]
        done = subprocess.run(command, env=os.environ | extra, capture_output=True, text=True, check=True)
    figures: dict[str, float | None] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", action="store_true", help="figures for a program")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        child(chosen.child[0], int(chosen.child[1]), int(chosen.child[2]))
    turns, rounds, each = (1, 5, 20) if chosen.quick else (5, 9, 40)
    seen: dict[str, list[dict[str, float | None]]] = {library: [] for library in LIBRARIES}
    for _ in range(turns):
        for library in LIBRARIES:
            seen[library].append(added(library, rounds, each))
    medians = {
        library: {
            kind: None if any(turn[kind] is None for turn in found) else statistics.median(t[kind] or 0 for t in found)
            for kind in found[0]
        }
        for library, found in seen.items()
    }
    versions = {name: version(name) for name in PACKAGES}
    if chosen.json:
        print(as_json({"facts": facts(), "versions": versions, "turns": turns, "us_of_cpu_added": medians}))
        return
    print(", ".join(f"{name} {found}" for name, found in versions.items()))
    heads = ["us of CPU added", *(kind + (", a chunk" if "stream" in kind else "") for kind in KINDS)]
    rows = []
    for library, found in medians.items():
        cells = []
        for kind in KINDS:
            value = found[kind]
            shown = "breaks" if value is None else f"{value:,.0f}"
            if value is not None and "stream" in kind:
                shown = f"{value:,.0f} ({value / CHUNKS:.2f})"
            cells.append(shown)
        rows.append([library, *cells])
    bare = [statistics.median(f[f"bare {kind}"] or 0 for f in medians.values() if f[f"bare {kind}"]) for kind in KINDS]
    rows.append(["(the bare call)", *(f"{value:,.0f}" for value in bare)])
    print(table(heads, rows))


if __name__ == "__main__":
    main()
