"""`bursar demo`: the main job on a provider on loopback; nothing leaves this machine, no key is needed."""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from bursar.words.errors import BursarError

if TYPE_CHECKING:
    from bursar.testing import Provider, ReceivedRequest, Reply

CALLS: Final = 50
AFFORDABLE: Final = 10
OUTPUT_TOKENS: Final = 200
_CITIES: Final = ("Lisbon", "Porto", "Faro", "Braga", "Coimbra", "Aveiro", "Évora", "Sintra")


_EPILOG: Final = "Example: bursar demo. Its ledger is the one that BURSAR_LEDGER names, else a fresh one of its own."


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("demo", epilog=_EPILOG)(demo_command)


def demo_command() -> None:
    """Show the main job: fifty calls under a budget for ten, an agent stopped by its budget, and the books."""
    _say("bursar demo · a provider on loopback that bills honestly; no key, no network\n")
    ledger = _ledger()
    _check_sdks()
    import bursar

    bursar.configure(ledger=ledger)
    fan_out()
    run = agent_run()
    from bursar.cli.demo_langchain import langchain_run

    _say("")
    langchain_run(_say, _check_books)
    _say("4. The books of the first agent: every attempt is a row, committed before its call returned.\n")
    from bursar.cli.report import report_command
    from bursar.cli.trace import read_trace, show_trace

    show_trace(read_trace(run.id, ledger))
    _say("\n5. Who spent what.\n")
    report_command(by="workflow", ledger=ledger)
    _say(f"\nThe ledger is {ledger}. Look further with:")
    _say(f"  bursar report --by model --ledger {ledger}")
    _say(f"  bursar trace last --ledger {ledger}")
    _say("  bursar replay your-recorded-runs.jsonl --usd 0.50")


def fan_out() -> None:
    """Send fifty calls at once under a budget for ten and a half of them."""
    import openai

    import bursar
    from bursar import Budget
    from bursar.testing import Provider, Reply

    _say(f"1. {CALLS} calls at once, under a budget for {AFFORDABLE} of them; each allows six times what it uses.")
    with Provider(latency_s=0.2, replies=lambda _: Reply(output_tokens=OUTPUT_TOKENS)) as provider:
        bare = openai.OpenAI(base_url=provider.openai_url, api_key="none", max_retries=0)
        client = bursar.wrap(bare, workflow="demo one call")
        one = _ask(client, 0)
        limit = (bursar.cost(one).nusd or 0) * (2 * AFFORDABLE + 1) // 2
        provider.reset()

        def call(number: int) -> bool:
            try:
                _ask(client, number)
            except bursar.BudgetExceeded:
                return False
            return True

        started = time.monotonic()
        with bursar.run("demo fan-out", Budget(usd=_dollars(limit))) as run, ThreadPoolExecutor(CALLS) as pool:
            served = sum(pool.map(run.bind(call), range(1, CALLS + 1)))
        took = time.monotonic() - started
        client.close()
        _say(f"   served {served}, refused {CALLS - served} before anything was sent, in {took:.1f} s")
        _say(f"   the provider billed ${_dollars(provider.billed_nusd)} of the ${_dollars(limit)} allowed")
        _say(f"   {run}\n")


def agent_run() -> Any:
    """Run an agent that would never stop, until its budget stops it."""
    import anthropic

    import bursar
    from bursar import Budget
    from bursar.testing import Provider

    _say("2. An agent that always finds one more thing to look up, with three cents to spend.")
    with Provider(latency_s=0.05, replies=_one_more_city) as provider:
        client = bursar.wrap(anthropic.Anthropic(base_url=provider.anthropic_url, api_key="none", max_retries=0))
        messages: list[Any] = [{"role": "user", "content": "Which city in Portugal is the warmest this week?"}]
        answer = "(none)"
        with bursar.run("demo agent", Budget(usd="0.03"), user="ada", feature="weather") as run:
            try:
                while True:
                    reply = client.messages.create(
                        model="claude-sonnet-5-5", max_tokens=1_000, messages=messages, tools=_TOOLS
                    )
                    answer = next((block.text for block in reply.content if block.type == "text"), answer)
                    messages.append({"role": "assistant", "content": reply.content})
                    messages.append({"role": "user", "content": _results(reply)})
            except bursar.BudgetExceeded as stop:
                _say(f"   stopped: {stop}")
        client.close()
        _say(f"   its last answer: {answer}")
        _say(f"   {run}")
        _check_books(provider, run)
        return run


_TOOLS: Final[Any] = [
    {
        "name": "weather",
        "description": "The weather in a city this week.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]


def _one_more_city(request: ReceivedRequest) -> Reply:
    from bursar.testing import Reply, ToolUse

    turn = len(request.body["messages"]) // 2
    city = _CITIES[turn % len(_CITIES)]
    warmest = _CITIES[(turn - 1) // 3 % len(_CITIES)] if turn else "none"
    text = f"After {turn} cities {warmest} is the warmest so far. Let me look at {city} too."
    return Reply(text=text, thinking_tokens=120, tool_calls=[ToolUse("weather", {"city": city})])


def _results(reply: Any) -> list[Any]:
    return [
        {"type": "tool_result", "tool_use_id": block.id, "content": f"{block.input['city']}: 21 degrees, some clouds."}
        for block in reply.content
        if block.type == "tool_use"
    ]


def _ask(client: Any, number: int) -> Any:
    question = f"{number:02d}: in one paragraph, why does the tide turn twice a day?"
    return client.chat.completions.create(
        model="gpt-4o", max_completion_tokens=6 * OUTPUT_TOKENS, messages=[{"role": "user", "content": question}]
    )


def _check_books(provider: Provider, run: Any) -> None:
    billed, recorded = provider.billed_nusd, run.spend.settled.nusd
    verdict = "the same" if billed == recorded else f"not the same: ${_dollars(billed)}"
    _say(f"   recorded ${_dollars(recorded)}, and the provider's own bill is {verdict}")


def _dollars(nano: int) -> str:
    from bursar.words.money import usd

    return f"{usd(nano).normalize():f}"


def _ledger() -> Path:
    named = os.environ.get("BURSAR_LEDGER")
    if named:
        from bursar.cli.ledger_option import read_ledger

        return read_ledger(named)
    # A fresh file of its own each time: the demo is nobody's spending.
    from bursar.ledger_file import default_ledger_path

    path = default_ledger_path().with_name("demo.db")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in path.parent.glob("demo.db*"):
            old.unlink()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="bursar-")) / "demo.db"
    return path


def _check_sdks() -> None:
    try:
        import anthropic  # noqa: F401
        import openai  # noqa: F401
    except ImportError as error:
        what = f"the demo wraps real clients and {error.name} is missing: pip install 'bursar[demo]'"
        raise BursarError(what) from None


def _say(line: str) -> None:
    typer.echo(line)
