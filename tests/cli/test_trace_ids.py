"""`bursar trace`: found by any id that somebody may have, with whom it is for, and as a flame graph of dollars."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import bursar
from bursar.cli.app import app
from bursar.tracing.find import Finder
from bursar.tracing.ledger import Ledger
from bursar.tracing.queries import Reader
from bursar.words.events import CostStatus, Usage, UsageSource
from bursar.words.records import ModelCall, RunRecord, Tags, ToolCall, Who

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FIRST, SECOND, ALONE = ("01K8" + f"{number:022}" for number in (1, 2, 3))


@pytest.fixture(autouse=True)
def filled(ledger: Path) -> Path:
    """A run of two steps, the second sent twice, with a tool and a nested run; and a call outside of any run."""
    writer = Ledger(ledger)
    who = Who(Tags("triage", "dev", "inbox", release="1.4", prompt_version="v3"), None, "s-9")
    writer.write(RunRecord("01K8RUN", None, who, 1, trace_id=TRACE, span_id=SPAN))
    writer.write(RunRecord("01K8SUB", "01K8RUN", Who(Tags("search")), 2))
    call(writer, FIRST, 0, "01K8RUN", 10_000_000, response_id="msg_01XFDU", request_id="req_011CS")
    call(writer, SECOND, 0, "01K8RUN", 0, response_id="msg_01ZZ1")
    call(writer, SECOND, 1, "01K8RUN", 30_000_000, response_id="msg_01ZZ2")
    call(writer, "01K8" + f"{7:022}", 0, "01K8SUB", 5_000_000)
    call(writer, "01K8" + f"{8:022}", 0, "01K8SUB", None)
    call(writer, ALONE, 0, None, 1_000_000, response_id="chatcmpl-alone")
    writer.write(
        ToolCall(
            f"01K8TOOL{0:018}/0",
            f"01K8TOOL{0:018}",
            40,
            who,
            "search",
            "01K8RUN",
            requested_by=f"{FIRST}/0",
            fee_nusd=2_000_000,
            fee_status="declared",
        )
    )
    writer.close()
    return ledger


def call(writer: Ledger, op_id: str, attempt: int, run_id: str | None, nusd: int | None, **changes: Any) -> None:
    fields: dict[str, Any] = {
        "usage": Usage(1_000, 20), "usage_source": UsageSource.PROVIDER, "cost_nusd": nusd, "run_id": run_id,
        "cost_status": CostStatus.UNKNOWN if nusd is None else CostStatus.LIST_PRICE,
    }  # fmt: skip
    record = ModelCall(
        f"{op_id}/{attempt}", op_id, attempt, 10 + attempt, Who(), "openai", "gpt-4o", "sync", **(fields | changes)
    )
    writer.write(record)


def cli(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["trace", *arguments])


@pytest.mark.parametrize(
    ("given", "op_id"),
    [
        ("01K8RUN", None), ("01k8r", None), (TRACE, None), (TRACE[:8].upper(), None), (SPAN, None),
        (FIRST, FIRST), (f"{SECOND}/1", SECOND), ("msg_01XFDU", FIRST), ("msg_01X", FIRST), ("req_011", FIRST),
        ("msg_01ZZ", SECOND), (f"01K8TOOL{0:018}", f"01K8TOOL{0:018}"),
    ],
)  # fmt: skip
def test_every_id_leads_to_its_run(given: str, op_id: str | None) -> None:
    """Of the run, of a call, a tool's call, a response, a request, a trace or a span; whole or its beginning."""
    found = json.loads(cli(given, "--json").output)
    assert (found["run_id"], found["op_id"]) == ("01K8RUN", op_id)
    assert found["lineage"]["release"] == "1.4"
    assert found["lineage"]["trace_id"] == TRACE


def test_the_tree_says_whom_it_is_for_and_marks_what_was_meant() -> None:
    """Lineage below the run's line, and an arrow at the step whose answer was asked for; a nested run names its own."""
    shown = cli("msg_01ZZ2").output.splitlines()
    for part in ("env dev", "feature inbox", "release 1.4", "prompt_version v3", "session_id s-9"):
        assert part in shown[1]
    assert [line for line in shown if "<- this one" in line] == [line for line in shown if "2 attempts" in line]
    assert "in triage 01K8RUN" in cli("01K8SUB").output


def test_a_call_outside_of_runs_is_shown_alone() -> None:
    """By the provider's id: its workflow, no run, its one step."""
    shown = cli("chatcmpl-al").output.splitlines()
    assert shown[0].startswith("unattributed · no run")
    assert "$0.00100" in shown[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("msg_01", "several responses' ids begin with 'msg_01': msg_01XFDU, msg_01ZZ1"),
        ("01K8000", "several calls' ids"),
        ("nobody", "no run's id begins with 'nobody', nor"),
    ],
)
def test_what_is_none_or_several_is_said(given: str, message: str) -> None:
    """Exit code 1 and the candidates."""
    done = cli(given)
    assert done.exit_code == 1
    assert message in str(done.exception)


def test_a_whole_id_is_found_before_longer_ones(ledger: Path) -> None:
    """Those begin as it does, and are newer; of two attempts with the same id the newer one is meant."""
    writer = Ledger(ledger)
    whole, longer, again = ("01K9" + f"{number:022}" for number in (1, 2, 3))
    call(writer, whole, 0, None, 1, response_id="resp_7", request_id="same")
    for number in range(3):
        call(writer, longer[:-1] + str(number), 0, None, 1, response_id="resp_7" + "x" * (number + 1))
    call(writer, again, 0, None, 1, request_id="same")
    writer.close()
    found = [json.loads(cli(given, "--json").output)["op_id"] for given in ("resp_7", "resp_7xxx", "same")]
    assert found == [whole, longer[:-1] + "2", again]
    assert "several responses' ids begin with 'resp_'" in str(cli("resp_").exception)


def test_only_what_has_no_index_is_gone_through(ledger: Path) -> None:
    """Who waits is told; a run's or a call's own id needs none of it."""
    waits = 0

    @contextmanager
    def waiting() -> Iterator[None]:
        nonlocal waits
        waits += 1
        yield

    with Finder(ledger) as finder:
        for given in ("01K8RUN", TRACE, f"{SECOND}/1"):
            finder.find(given, waiting)
        assert waits == 0
        finder.find("msg_01XFDU", waiting)
    assert waits == 1


def test_a_flame_graph_is_as_wide_as_the_dollars(tmp_path: Path) -> None:
    """A file of speedscope's format whose weights are the costs of attempts and tools; unpriced ones are counted."""
    target = tmp_path / "run.json"
    assert cli("01K8RUN", "--speedscope", str(target)).exit_code == 0
    found = json.loads(target.read_text())
    # What the published schema requires of a file with a sampled profile, and nothing beside what it allows.
    assert found["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert set(found) <= {"$schema", "shared", "profiles", "name", "activeProfileIndex", "exporter"}
    frames = found["shared"]["frames"]
    assert all(set(frame) == {"name"} and frame["name"] for frame in frames)
    (profile,) = found["profiles"]
    assert set(profile) == {"type", "name", "unit", "startValue", "endValue", "samples", "weights"}
    assert (profile["type"], profile["unit"], profile["startValue"]) == ("sampled", "none", 0)
    assert len(profile["samples"]) == len(profile["weights"])
    assert all(0 <= number < len(frames) for stack in profile["samples"] for number in stack)
    assert profile["endValue"] == pytest.approx(sum(profile["weights"])) == pytest.approx(0.047)
    stacks = {
        tuple(frames[number]["name"] for number in stack): usd
        for stack, usd in zip(profile["samples"], profile["weights"], strict=True)
    }
    assert stacks[("run triage 01K8RUN", "step 2 gpt-4o", "step 2 attempt 2 ok")] == 0.03
    assert stacks[("run triage 01K8RUN", "step 1 gpt-4o", "tool search")] == 0.002
    assert stacks[("run triage 01K8RUN", "run search 01K8SUB", "step 1 gpt-4o")] == 0.005
    assert "1 without a price" in profile["name"]


def test_a_run_without_a_cost_makes_no_flame_graph(ledger: Path, tmp_path: Path) -> None:
    """It says so, and writes no file."""
    writer = Ledger(ledger)
    writer.write(RunRecord("02EMPTY", None, Who(), 1))
    writer.close()
    assert cli("02EMPTY", "--speedscope", str(tmp_path / "x.json")).exit_code == 1
    assert not (tmp_path / "x.json").exists()


@pytest.mark.filterwarnings("ignore:.*ended and saw no model call")
def test_a_run_notes_the_span_that_it_is_opened_in(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody traces in this process; where nobody does, or it fails, the run opens all the same."""
    telemetry: Any = types.ModuleType("opentelemetry.trace")
    context = types.SimpleNamespace(is_valid=True, trace_id=int(TRACE, 16) + 1, span_id=int(SPAN, 16))
    span = types.SimpleNamespace(get_span_context=lambda: context)
    telemetry.get_current_span = lambda: span
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", telemetry)
    with bursar.run("traced", bursar.Budget(usd="1")) as run:
        pass
    assert json.loads(cli(f"{int(TRACE, 16) + 1:032x}", "--json").output)["run_id"] == run.id
    del telemetry.get_current_span
    with bursar.run("untraced", bursar.Budget(usd="1")) as run:
        pass
    with Reader(ledger) as reader:
        assert reader.run(run.id).workflow == "untraced"
