"""What is kept of tool calls: prices of the file, shared limits, rows, events, content, and what people see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import bursar
from bursar import Budget, BudgetExceeded, BursarWarning, ConfigError
from bursar.cli.app import app
from bursar.runs.process import process
from bursar.settings.config import read_settings
from bursar.testing import Provider, Reply, ToolUse
from bursar.testing.reply import scripted
from bursar.tracing.content import read_contents
from bursar.tracing.log_reader import read_trace
from bursar.tracing.queries import Reader
from bursar.words.tools import ToolRule, rule_for
from tests.callbacks.loops import chat_loop, chat_stream_loop, tools_of
from tests.clients.books import rows_of

if TYPE_CHECKING:
    from bursar.stores.rows import AccountRow

pytestmark = pytest.mark.filterwarnings("ignore:run 'w' ended and saw no model call")
KINDS: dict[str, str] = {}
KEY = "sk-proj-ABCDEFGHIJKLMNOPQRSTUV12"
SCRIPT = [Reply(text="", tool_calls=[ToolUse("tavily_search", {"q": "trains"}, id="call_1")]), Reply(text="done")]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bursar.toml"
    path.write_text(text)
    bursar.configure(config=path)
    return path


def search(q: str) -> str:
    return f"found {q}"


def account(kind: str) -> AccountRow:
    (found,) = [row for row in process().shared.every_account() if row.scope.kind == kind]
    return found


def test_the_most_specific_pattern_wins(tmp_path: Path) -> None:
    """A plain name before a pattern, a longer pattern before a shorter; each key for itself."""
    path = tmp_path / "bursar.toml"
    path.write_text(
        '[tool."*"]\nusd = "0.001"\neffect = "write"\n[tool."tavily_*"]\nusd = "0.008"\n'
        '[tool.tavily_map]\nusd = "0"\n[tool.\'mcp.tavily_[ab]*\']\neffect = "read"\n'
    )
    rules = read_settings({"config": path}).tools
    assert rule_for(rules, "tavily_search") == ToolRule("tavily_search", 8_000_000, "write")
    assert rule_for(rules, "tavily_map") == ToolRule("tavily_map", 0, "write")
    assert rule_for(rules, "mcp.tavily_a") == ToolRule("mcp.tavily_a", 1_000_000, "read")
    assert rule_for(rules[1:], "other") == ToolRule("other")


@pytest.mark.parametrize(
    ("text", "line", "shown"),
    [
        ('[tool."a.b_*"]\neffect = "read"\nusd = 0.1\n', 3, "usd=0.1: money is never a float"),
        ('[tool.x]\nusd = "-1"\n', 2, "usd='-1'"),
        ('[tool.x]\neffect = "delete"\n', 2, "effect = 'delete' is none of read"),
        ('[tool.x]\nprice = "1"\n', 2, "'price' is not a setting of tool.x"),
        ("[bursar]\n[tool.x]\n", 2, 'a tool has usd = "0.01"'),
        ("tool = 3\n", 1, "tool is a table"),
    ],
)
def test_a_wrong_price_is_named_with_its_line(tmp_path: Path, text: str, line: int, shown: str) -> None:
    """File, line and value are in the error."""
    path = tmp_path / "bursar.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_settings({"config": path})
    assert f"{path}:{line}: " in str(error.value)
    assert shown in str(error.value)


@pytest.mark.parametrize("loop", [chat_loop, chat_stream_loop])
@pytest.mark.parametrize("decorated", [True, False])
def test_a_price_of_the_file_is_charged_once(tmp_path: Path, loop: Any, decorated: bool) -> None:
    """Decorated or only seen in the answer: one row, one fee, one tool call, in the run and in the day of all."""
    write(tmp_path, '[tool."tavily_*"]\nusd = "0.008"\neffect = "read"\n[env.development]\nusd_per_day = "1"\n')
    tool: Any = bursar.tool(name="tavily_search")(search) if decorated else search
    with Provider(latency_s=0.0, replies=scripted(SCRIPT)) as provider, bursar.run("w", Budget(usd="1")) as run:
        loop(provider, {"tavily_search": tool})
        billed = provider.billed_nusd
    (row,) = tools_of(run)
    assert (row.tool_call_id, row.requested_by) == ("call_1", rows_of(run)[0].call_id)
    assert (row.status, row.fee_status) == (("ok", "declared") if decorated else ("asked", "upper_bound"))
    assert (row.nusd, row.effect) == (8_000_000, "read")
    for settled in (run.spend.settled, account("env").settled):
        assert (settled.nusd, settled.tool_calls) == (billed + 8_000_000, 1)
    assert account("env").holds == 0
    assert process().shared.audit() == []
    with Reader(Path(process().ledger.path)) as reader:
        assert [spend.tool_calls for spend in reader.spend_by("workflow")] == [1]
        assert reader.run(run.id).nusd == billed + 8_000_000


def test_a_price_in_the_code_comes_first(tmp_path: Path) -> None:
    """Who decorates a tool knows it better than a pattern."""
    write(tmp_path, '[tool."*"]\nusd = "0.008"\neffect = "read"\n')
    with bursar.run("w", Budget(usd="1")) as run:
        bursar.tool(usd="0.5", effect="write")(search)("x")
        bursar.tool(name="free", usd="0")(search)("x")
    assert [(row.nusd, row.effect) for row in tools_of(run)] == [(500_000_000, "write"), (0, "read")]


def test_processes_share_limits_on_tools(tmp_path: Path) -> None:
    """A day's limit holds outside of runs too, counts what the ledger had before it, and refuses before the tool runs."""
    tool = bursar.tool(usd="0.01")(search)
    tool("morning")
    write(tmp_path, '[env.development]\ntool_calls_per_day = 3\nusd_per_day = "1"\n')
    with bursar.run("w", Budget.unlimited()):
        tool("one")
    tool("two")
    with pytest.raises(BudgetExceeded) as stopped:
        tool("three")
    assert (stopped.value.unit, stopped.value.settled) == ("tool_calls", 3)
    assert account("env").settled.nusd == 30_000_000
    assert process().shared.audit() == []


class Hostile:
    """Prints a secret, raises, or takes for ever, whatever is asked of it."""

    def __repr__(self) -> str:
        raise AssertionError(KEY)

    __str__ = __hash__ = __len__ = __iter__ = __repr__  # type: ignore[assignment]


@pytest.mark.parametrize("argument", [Hostile(), KEY, "\ud800\x1b[2J\n{}", b"\xff", 2**70, float("nan"), {1, 2}])
def test_arguments_and_results_are_measured_and_not_kept(tmp_path: Path, argument: Any) -> None:
    """Whatever goes in and comes out: a row is written, and no byte of it is in ledger, log or warning."""
    bursar.configure(trace=tmp_path / "trace.jsonl")
    with bursar.run("w", Budget(tool_calls=5)) as run:
        assert bursar.tool(lambda value: value)(argument) is argument
        assert bursar.tool(name="nest")(lambda *values, **more: [*values, more])(argument, deep=[argument])
    rows = tools_of(run)
    assert [row.status for row in rows] == ["ok", "ok"]
    assert all(row.args_hash and row.result_hash for row in rows)
    kept = [*tmp_path.glob("ledger.db*"), tmp_path / "trace.jsonl"]
    assert not any(KEY.encode() in path.read_bytes() for path in kept)


def test_the_event_has_the_fields_of_the_row(tmp_path: Path) -> None:
    """`bursar.tool_call` in the trace log, user hashed, under the same names."""
    bursar.configure(trace=tmp_path / "trace.jsonl")
    with bursar.run("w", Budget(usd="1"), user="sylvie", team="blue") as run:
        bursar.tool(usd="0.02", effect="read")(search)("x")
    (row,) = tools_of(run)
    (event,) = [each for each in read_trace(tmp_path / "trace.jsonl").records if each["event"] == "bursar.tool_call"]
    for name, value in row._asdict().items():
        assert event["fee_nusd" if name == "nusd" else name] == (list(value) if isinstance(value, tuple) else value)
    assert (event["workflow"], event["extra"]) == ("w", {"team": "blue"})
    assert event["user_hash"].startswith("k1:")
    assert b"sylvie" not in (tmp_path / "trace.jsonl").read_bytes()


def test_what_cannot_be_written_is_spooled_and_taken_back(ledger: Path) -> None:
    """A ledger that is a folder for a while loses no tool call: it runs, and its row is there afterwards."""
    ledger.mkdir()
    tool = bursar.tool(usd="0.02", effect="read")(search)
    with pytest.warns(BursarWarning, match="cannot be written"), bursar.run("w", Budget(usd="1"), user="ada") as run:
        assert tool("x") == "found x"
    process().close()
    ledger.rmdir()
    bursar.configure()
    with bursar.run("w", Budget(usd="1")):
        pass
    (row,) = tools_of(run)
    assert (row.tool_name, row.nusd, row.status, row.effect, row.flags) == ("search", 20_000_000, "ok", "read", ())


def test_content_is_kept_where_it_is_wanted(tmp_path: Path, ledger: Path) -> None:
    """Arguments and result, without keys; a forgotten user's are deleted."""
    bursar.configure(content="full")
    with bursar.run("w", Budget(tool_calls=5), user="ada") as run:
        bursar.tool(lambda q, db: f"{q} {KEY}")(f"why {KEY}", Hostile())
        with pytest.raises(KeyError):
            bursar.tool(name="bad")(lambda: KINDS["x"])()
    first, second = tools_of(run)
    kept = read_contents(ledger, [first.call_id, second.call_id])
    assert "why [redacted]" in kept[first.call_id].asked[0].text
    assert kept[first.call_id].said[0].text == "why [redacted] [redacted]"
    assert (kept[second.call_id].asked[0].text, kept[second.call_id].said[0].text) == ("bad {}", "KeyError")
    shown = CliRunner().invoke(app, ["trace", "last", "--content"]).output
    assert "tool result: KeyError" in shown
    bursar.configure()
    done = CliRunner().invoke(app, ["forget", "--user", "ada", "--yes", "--json"])
    assert json.loads(done.output) == {"model_calls": 0, "runs": 1, "contents": 2, "tool_calls": 2}
    assert read_contents(ledger, [first.call_id, second.call_id]) == {}


def test_a_trace_shows_tools_under_the_answer_that_asked_for_them() -> None:
    """With time, fee, ending and repeats; a tool that nobody asked for is a step of its own."""
    look = [ToolUse("look", {"at": 1}), ToolUse("look", {"at": 2})]
    replies = [Reply(text="", tool_calls=look), Reply(text="", tool_calls=look[:1]), Reply(text="done")]
    tool = bursar.tool(usd="0.02", effect="poll", name="look")(lambda at: {"at": at})
    with Provider(latency_s=0.0, replies=scripted(replies)) as provider, bursar.run("w", Budget(usd="1")):
        chat_loop(provider, {"look": tool})

        @bursar.tool(name="\x1b[2Jown")
        def own() -> None:
            raise LookupError

        with pytest.raises(LookupError):
            own()
    shown = CliRunner().invoke(app, ["trace", "last"]).output.splitlines()
    steps = [line for line in shown if "gpt-4o" in line or ("tool " in line and "tool call" not in line)]
    assert ["gpt-4o" in line for line in steps] == [True, False, False, True, False, True, False]
    assert "tool look · poll · 0.00 s · $0.02" in steps[1]
    assert steps[4].endswith("repeat 1, same result")
    assert "  4 tool \\u{1b}[2Jown" in steps[6]
    assert steps[6].endswith("error LookupError")
    tree = json.loads(CliRunner().invoke(app, ["trace", "last", "--json"]).output)
    assert [len(operation["tools"]) for operation in tree["operations"]] == [2, 1, 0, 1]
    first = tree["operations"][0]
    assert first["tools"][0]["requested_by"] == first["attempts"][0]["call_id"]
    assert (first["tools"][0]["usd"], tree["operations"][3]["tools"][0]["usd"]) == ("0.020000000", None)
