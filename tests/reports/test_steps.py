"""The trace of a run: every row has its place in the tree."""

from __future__ import annotations

import json
import random
from typing import Any

from bursar.reports.steps import RunTree, as_json, run_tree
from bursar.words.rows import CallRow, RunRow, VerdictRow


def run(run_id: str, parent: str | None = None, **changes: Any) -> RunRow:
    return RunRow(run_id, parent, "w", "k1:0", 1, 9, "done", 2, 0, 30, 500, 0, 0, (("usd", 10**9),))._replace(**changes)


def call(op: str, attempt: int = 0, ts_us: int = 0, run_id: str | None = "A", **changes: Any) -> CallRow:
    fields: dict[str, Any] = dict.fromkeys(CallRow._fields)
    fields |= {
        "call_id": f"{op}/{attempt}", "run_id": run_id, "step": 1, "request_model": "m", "path": "sync",
        "status": "ok", "usage_source": "provider", "flags": (), "ts_us": ts_us, "latency_us": 5, "queue_us": 0,
        "input_tokens": 10, "cache_read_tokens": 0, "cache_write_tokens": 0, "output_tokens": 2,
        "reasoning_tokens": 0, "tool_calls": 0, "nusd": 250, "cost_status": "list_price",
    }  # fmt: skip
    return CallRow(**(fields | changes))


def verdict(op: str, ts_us: int = 0, run_id: str | None = "A", **changes: Any) -> VerdictRow:
    return VerdictRow(op, run_id, ts_us, "budget", "deny", "no_room", "run A", "usd", 10, 4, 3, 9, acted=True)._replace(
        **changes
    )


def shape(tree: RunTree) -> Any:
    return [
        tree.run.run_id,
        [(op.op_id, len(op.attempts), len(op.verdicts)) for op in tree.operations],
        [shape(child) for child in tree.children],
    ]


def test_attempts_of_one_operation_stand_together() -> None:
    """However the rows come, operations are in the order in which they began, and so are their attempts."""
    rows = [call("x", 0, 1), call("y", 0, 2), call("x", 1, 3), call("z", 0, 4), call("x", 2, 5)]
    for seed in range(10):
        mixed = random.Random(seed).sample(rows, len(rows))
        tree = run_tree([run("A")], mixed, [])
        assert shape(tree) == ["A", [("x", 3, 0), ("y", 1, 0), ("z", 1, 0)], []]
        assert [attempt.call_id for attempt in tree.operations[0].attempts] == ["x/0", "x/1", "x/2"]


def test_verdicts_stand_beside_their_operation() -> None:
    """Also of an operation that was refused and has no attempt: in its place among the others."""
    tree = run_tree([run("A")], [call("x", 0, 2), call("z", 0, 6)], [verdict("x", 1), verdict("y", 4), verdict("y", 5)])
    assert shape(tree) == ["A", [("x", 1, 1), ("y", 0, 2), ("z", 1, 0)], []]


def test_runs_are_nested_as_deep_as_they_were() -> None:
    """Each below its parent with its own operations; the root's parent is outside."""
    runs = [run("A", "outside"), run("B", "A"), run("C", "A"), run("D", "B")]
    calls = [call("a"), call("b", run_id="B"), call("d", run_id="D"), call("d2", run_id="D")]
    tree = run_tree(runs, calls, [verdict("c", run_id="C")])
    assert shape(tree) == [
        "A",
        [("a", 1, 0)],
        [["B", [("b", 1, 0)], [["D", [("d", 1, 0), ("d2", 1, 0)], []]]], ["C", [("c", 0, 1)], []]],
    ]


def test_a_run_without_calls_is_a_tree() -> None:
    """It opened and ended, and that is all."""
    assert shape(run_tree([run("A")], [], [])) == ["A", [], []]


def test_a_row_of_no_run_belongs_to_the_first() -> None:
    """Nothing that was asked for is dropped."""
    assert shape(run_tree([run("A")], [call("x", run_id=None)], [verdict("y", 1, None)]))[1] == [
        ("x", 1, 0),
        ("y", 0, 1),
    ]


def test_every_row_is_in_the_tree_once() -> None:
    """Three hundred rows of a random family: as many in as out, each in its own run."""
    chance = random.Random(7)
    runs = [run("R0")] + [run(f"R{number}", f"R{chance.randrange(number)}") for number in range(1, 30)]
    calls = [call(f"o{n}", 0, chance.randrange(99), f"R{chance.randrange(30)}") for n in range(200)]
    verdicts = [verdict(f"v{n}", chance.randrange(99), f"R{chance.randrange(30)}") for n in range(100)]

    def rows_of(tree: RunTree) -> list[CallRow | VerdictRow]:
        own: list[CallRow | VerdictRow] = []
        for operation in tree.operations:
            own += [*operation.attempts, *operation.verdicts]
        assert {one.run_id for one in own} <= {tree.run.run_id}
        return own + [one for child in tree.children for one in rows_of(child)]

    found = rows_of(run_tree(runs, calls, verdicts))
    assert sorted(map(repr, found)) == sorted(map(repr, [*calls, *verdicts]))


def test_as_json_the_tree_is_plain_data() -> None:
    """Every field of every row under its own name; dollars as decimal text, null where a cost is not known."""
    runs = [run("A"), run("B", "A", limits=())]
    calls = [call("x", ttft_us=None), call("y", 0, 1, "B", nusd=None, cost_status="unknown", flags=("clamped",))]
    data = json.loads(json.dumps(as_json(run_tree(runs, calls, [verdict("x")]))))
    assert set(data) == {*RunRow._fields, "usd", "operations", "runs"}
    assert (data["usd"], data["nusd"], data["limits"]) == ("0.000000500", 500, {"usd": 10**9})
    (operation,) = data["operations"]
    assert set(operation) == {"op_id", "attempts", "verdicts", "tools"}
    (attempt,) = operation["attempts"]
    assert set(attempt) == {*CallRow._fields, "usd"}
    assert (attempt["usd"], attempt["nusd"], attempt["ttft_us"]) == ("0.000000250", 250, None)
    assert operation["verdicts"] == [verdict("x")._asdict()]
    (child,) = data["runs"]
    assert child["limits"] == {}
    (unpriced,) = child["operations"][0]["attempts"]
    assert (unpriced["usd"], unpriced["nusd"], unpriced["flags"]) == (None, None, ["clamped"])


def test_a_run_that_has_not_ended_is_the_sum_of_its_rows() -> None:
    """Its own row was written when it began: what it and those nested in it have spent is in the rows of the calls."""
    began: dict[str, Any] = {"ended_us": None, "stop_reason": None, "steps": 0, "tokens": 0, "nusd": 0}
    rows = [
        call("x", 0, 1, step=1),
        call("y", 0, 2, step=2, usage_source="estimated", nusd=70),
        call("z", 0, 3, run_id="B", nusd=None),
        call("u", 0, 4, run_id="C"),
    ]
    tree = run_tree([run("A", **began), run("B", "A", **began), run("C", "A")], rows, [])
    assert tree.run == run("A", **began | {"steps": 2, "tokens": 66, "nusd": 820, "unpriced": 1, "unmeasured_nusd": 70})
    assert [child.run.nusd for child in tree.children] == [0, 500]
