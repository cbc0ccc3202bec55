"""The loop guard: legitimate repeats by name, loops by name, the ladder and its rungs."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from bursar import ConfigError
from bursar.guards.calls import ToolTraits
from bursar.guards.loop_judge import said
from bursar.guards.loop_state import Spent
from bursar.guards.loops import LoopGuard
from tests.guards.looping import Agent, declared

LONG = "public int hashCode() { return Objects.hash(name, version, timestamp); } // keep in step with equals"


def declared_poll() -> Agent:
    """An unchanged status, asked for again and again, of a tool declared to be a poll."""
    agent = Agent(declared(status=ToolTraits(effect="poll")))
    for _ in range(50):
        agent.call("status", {"job": 7}, "running")
    return agent


def poll_with_sleeps() -> Agent:
    """An unchanged status with half a minute between two looks."""
    agent = Agent(clock_us=0)
    for _ in range(50):
        agent.call("status", {"job": 7}, "running", after=30)
    return agent


def poll_with_a_sleep_tool() -> Agent:
    """As above, where the agent sleeps by a tool of its own."""
    agent = Agent(clock_us=0)
    for _ in range(50):
        agent.call("status", {"job": 7}, "running")
        agent.call("sleep", {"seconds": 30}, "", after=30)
    return agent


def poll_with_a_key() -> Agent:
    """A poll that numbers its attempts, and says that the number tells them apart."""
    agent = Agent(declared(status=ToolTraits(loop_key=["attempt"])))
    for n in range(50):
        agent.call("status", {"job": 7, "attempt": n}, "running")
    return agent


def server_side_cursor() -> Agent:
    """Pages of a cursor that the server keeps: the same call, and only the numbers of the answer change."""
    agent = Agent()
    for n in range(50):
        agent.call("next_page", {}, f"rows {10 * n} to {10 * n + 9}")
    return agent


def read_output() -> Agent:
    """The output of a running process, mostly nothing new, declared a poll."""
    agent = Agent(declared(**{"read_*": ToolTraits(effect="poll")}))
    for n in range(50):
        agent.call("read_output", {"shell": 1}, "line" if n % 10 == 9 else "")
    return agent


def waiting() -> Agent:
    """A tool that waits: it takes its time and says nothing."""
    agent = Agent(clock_us=0)
    for _ in range(20):
        agent.call("wait", {"seconds": 60}, "", after=60)
    return agent


def retry_after_503() -> Agent:
    """A server that is not available: that belongs to the retries, and the call is the right one."""
    agent = Agent()
    for _ in range(12):
        agent.call("fetch", {"url": "/a"}, "503 Service Unavailable")
    agent.call("fetch", {"url": "/a"}, "the page")
    return agent


def edit_test_same_failure() -> Agent:
    """An edit each time, and a test that fails as before."""
    agent = Agent()
    for n in range(20):
        agent.call("edit", {"line": n, "text": f"x = {n}"}, "ok")
        agent.call("shell", {"command": "pytest -x"}, "FAILED test_a - assert 1 == 2", error=True)
    return agent


def ls_after_cd() -> Agent:
    """The same listing in one directory after the other."""
    agent = Agent()
    for _ in range(12):
        agent.call("shell", {"command": "cd .."}, "")
        agent.call("shell", {"command": "ls"}, "src")
    return agent


def toggle() -> Agent:
    """A switch that is put on and off: the same call, and never the state of the last time."""
    agent = Agent()
    for n in range(20):
        agent.call("toggle_data", {}, "now ON" if n % 2 else "now OFF")
        agent.call("check", {}, "no service")
    return agent


def switching_declared() -> Agent:
    """Putting a light on and off, where its tool is declared to be neither progress nor repetition."""
    agent = Agent(declared(light=ToolTraits(exempt=True)))
    for n in range(20):
        agent.call("light", {"on": n % 2 == 0}, "ok")
    return agent


def reread_after_a_trim() -> Agent:
    """Files that are read again because what was read is no longer there."""
    agent = Agent()
    for _ in range(4):
        for n in range(5):
            agent.call("read", {"file": n}, f"content {n}")
        agent.state.forget({f"c{n}" for n in range(1, agent.calls + 1)})
    return agent


def fan_out() -> Agent:
    """Ten identical calls at once."""
    agent = Agent()
    agent.round([("draw", {"seed": None}, "a picture")] * 10)
    agent.call("pick", {}, "the third")
    return agent


def fifty_files() -> Agent:
    """Fifty files, one tool, one answer."""
    agent = Agent()
    for n in range(50):
        agent.call("write", {"path": f"src/file{n}.py", "text": LONG}, "ok")
    return agent


def user_asks_again() -> Agent:
    """The user wants it once more, ten times."""
    agent = Agent(declared(send=ToolTraits(effect="write")))
    for _ in range(10):
        agent.user()
        agent.call("send", {"to": "ann"}, "sent")
        agent.call("status", {}, "fine")
    return agent


NEGATIVES = [
    declared_poll, poll_with_sleeps, poll_with_a_sleep_tool, poll_with_a_key, server_side_cursor, read_output, waiting,
    retry_after_503, edit_test_same_failure, ls_after_cd, toggle, switching_declared, reread_after_a_trim, fan_out,
    fifty_files, user_asks_again,
]  # fmt: skip
SILENT = {
    declared_poll, poll_with_sleeps, poll_with_a_key, read_output, waiting, ls_after_cd, toggle, switching_declared,
    reread_after_a_trim, fan_out, user_asks_again,
}  # fmt: skip


@pytest.mark.parametrize("happens", NEGATIVES, ids=lambda case: case.__name__)
def test_what_repeats_for_a_reason_goes_on(happens: Callable[[], Agent]) -> None:
    """Every hard negative: nothing is stopped or blocked; most are not even spoken to."""
    agent = happens()
    assert set(agent.actions()) <= {"nudge"}
    assert agent.refused == 0
    if happens in SILENT:
        assert agent.actions() == []


def cycle(length: int, result: Callable[[int], str] = str) -> Agent:
    agent = Agent()
    for n in range(6 * length):
        agent.call("look", {"page": f"p{n % length}"}, result(n % length))
    return agent


def identical() -> Agent:
    """One call six times."""
    agent = Agent()
    for _ in range(7):
        agent.call("look", {"page": 1}, "nothing")
    return agent


def key_order() -> Agent:
    """One call in two spellings."""
    agent = Agent()
    for n in range(7):
        agent.call("look", '{"a": 1, "b": 2.0}' if n % 2 else '{"b":2,"a":1}', "nothing")
    return agent


def abab() -> Agent:
    """Two calls in turn."""
    return cycle(2)


def cycle_of_3() -> Agent:
    """Three calls in turn."""
    return cycle(3)


def cycle_of_5() -> Agent:
    """Five calls in turn."""
    return cycle(5)


def cycle_of_7() -> Agent:
    """Seven calls in turn."""
    return cycle(7)


def clock_in_the_result() -> Agent:
    """A cycle whose results say when, how long it took, by which process and with which id."""
    agent = Agent()
    for n in range(18):
        agent.call(
            "look",
            {"page": n % 3},
            f"2026-11-22T10:{n:02}:07Z pid {4_000 + n}: page {n % 3} read in {n}.5 ms, trace "
            f"550e8400-e29b-41d4-a716-4466554400{n:02}",
        )
    return agent


def growing_file() -> Agent:
    """One insertion again and again: the file grows, so that no two results are equal."""
    agent = Agent()
    for n in range(16):
        agent.call("insert", {"text": "import os"}, f"File grew to {100 + 54 * n} lines")
    return agent


def drifting_arguments() -> Agent:
    """One error, and arguments that vary."""
    agent = Agent()
    for n in range(10):
        agent.call("query", {"sql": f"select {'x' * n} from nowhere"}, "Error: no such table: nowhere")
    return agent


def think_between() -> Agent:
    """A loop with a call of a tool between that does nothing."""
    agent = Agent(declared(think=ToolTraits(exempt=True)))
    for n in range(7):
        agent.call("book", {"flight": 1}, "Error: payment does not match")
        agent.call("think", {"thought": f"hm {n}"}, "")
    return agent


def across_a_summary() -> Agent:
    """A loop that a summary of the conversation interrupts: what was dropped may be read once more."""
    agent = Agent()
    for n in range(16):
        agent.call("look", {"page": n % 2}, "nothing")
        if n == 4:
            agent.state.forget({f"c{call}" for call in range(1, 6)})
    return agent


def parallel() -> Agent:
    """Two calls at once, the same two each time."""
    agent = Agent()
    for _ in range(7):
        agent.round([("look", {"page": 1}, "nothing"), ("look", {"page": 2}, "nothing")])
    return agent


def near_duplicate_cycle() -> Agent:
    """The same method inserted at shifted lines."""
    agent = Agent()
    for n in range(10):
        agent.call("insert", {"line": 40 + 3 * n, "text": LONG}, f"inserted at line {40 + 3 * n}; {900 + 3 * n} lines")
    return agent


def near_duplicate_cycle_of_two() -> Agent:
    """Open at a line, insert there, a little further each time."""
    agent = Agent()
    for n in range(8):
        agent.call("open", {"line": 10 * n}, f"[lines {10 * n} to {10 * n + 9}]")
        agent.call("insert", {"line": 10 * n, "text": "}"}, f"now {200 + n} lines")
    return agent


def error_over_turns() -> Agent:
    """One error with drifting arguments, and the user speaks after each."""
    agent = Agent()
    for n in range(5):
        agent.call("book", {"flight": f"HAT{n}"}, "Error: payment method not found")
        agent.user()
    return agent


FINISHED = [
    identical, key_order, abab, cycle_of_3, cycle_of_5, cycle_of_7, clock_in_the_result, drifting_arguments,
    think_between, across_a_summary, parallel,
]  # fmt: skip
SPOKEN_TO = [growing_file, near_duplicate_cycle, near_duplicate_cycle_of_two, error_over_turns]


@pytest.mark.parametrize("happens", FINISHED + SPOKEN_TO, ids=lambda case: case.__name__)
def test_what_brings_nothing_new_is_found(happens: Callable[[], Agent]) -> None:
    """Every hard positive: the model is told; where nothing can come of it any more, it is asked to end."""
    agent = happens()
    assert agent.actions()[0] == "nudge"
    assert ("finish" in agent.actions()) == (happens in FINISHED)


def test_the_ladder() -> None:
    """Stale calls in a row: noted, told at two, refused from four on, ended at six; with where and how much since."""
    agent = Agent()
    agent.call("plan", {}, "go")
    for _ in range(8):
        agent.call("look", {}, "nothing")
    seen = [(verdict.action, verdict.streak) for verdict in agent.verdicts]
    assert seen[:6] == [("notice", 1), ("nudge", 2), ("notice", 3), ("block", 4), ("block", 5), ("finish", 6)]
    nudge = agent.verdicts[1]
    assert (nudge.kind, nudge.onset, nudge.step, nudge.tokens, nudge.nusd) == ("identical_result", 2, 3, 200, None)
    assert agent.refused == 3
    assert not agent.call("look", {}, "nothing")


def test_other_calls_pass_a_block() -> None:
    """Only the calls of the loop are refused; anything fresh ends it, and the call is allowed again."""
    agent = Agent()
    for _ in range(6):
        agent.call("look", {}, "nothing")
    assert agent.refused == 1
    assert agent.call("ask", {}, "answer")
    assert agent.call("look", {}, "nothing")


def test_an_undeclared_poll_sees_the_end_of_its_job() -> None:
    """Told, then refused for a while that doubles and let through once more; when the job is done it is seen."""
    agent = Agent(clock_us=0)
    answers: list[str] = []

    def status(now: int | None) -> str:
        assert now is not None
        answers.append("done" if now >= 400_000_000 else "running")
        return answers[-1]

    while answers[-1:] != ["done"]:
        agent.call("status", {"job": 7}, status, after=10)
        assert agent.clock_us is not None
        assert agent.clock_us < 900_000_000
    assert agent.actions()[:2] == ["nudge", "block"]
    assert "finish" not in agent.actions()
    assert len(answers) <= 10


def test_a_model_that_hammers_a_block_is_ended() -> None:
    """Refused calls that come again at once count; so the end does not wait for the block to expire."""
    agent = Agent(clock_us=0)
    for _ in range(7):
        agent.call("status", {"job": 7}, "running", after=1)
    assert agent.actions()[-1] == "finish"


@pytest.mark.parametrize(("effect", "rungs"), [("read", [2, 4, 6]), ("idempotent", [2, 3, 5]), ("write", [1, 2, 4])])
def test_writes_climb_faster(effect: str, rungs: list[int]) -> None:
    """The rungs by effect, where nothing can be refused before it is done (a client sees calls when they are done)."""
    guard = declared(tool=ToolTraits(effect=effect))  # type: ignore[arg-type]  # as it comes from a declaration
    assert list(guard.rungs(effect)) == rungs


def test_a_second_identical_write_is_asked_about_or_refused() -> None:
    """A message is sent once; the second is refused, or a person is asked; the user may want it again, and a failed
    one may be tried again."""
    agent = Agent(declared(send=ToolTraits(effect="write")))
    assert agent.call("send", {"to": "ann"}, "Error: mailbox locked")
    assert agent.call("send", {"to": "ann"}, "sent")
    assert agent.call("send", {"to": "bob"}, "sent")
    assert not agent.call("send", {"to": "ann"}, "sent")
    assert [(v.action, v.kind) for v in agent.verdicts] == [("block", "repeated_write")]
    agent.user()
    assert agent.call("send", {"to": "ann"}, "sent")
    asking = Agent(LoopGuard(tools={"send": ToolTraits(effect="write")}, approve=lambda tool, arguments: True))
    for _ in range(2):
        asking.call("send", {"to": "ann"}, "sent")
    assert asking.actions() == ["ask"]


def test_identical_is_a_plain_stop() -> None:
    """Five identical calls in a row end the run, whatever comes back; without it such calls are only spoken to."""
    plain, strict = Agent(), Agent(LoopGuard(identical=5))
    for agent in (plain, strict):
        for n in range(9):
            agent.call("roll", {"dice": "two"}, f"result {'x' * n}")
    assert plain.actions() == ["nudge"]
    assert (strict.verdicts[3].action, strict.verdicts[3].kind) == ("finish", "identical_calls")


def test_money_ends_a_loop_early() -> None:
    """A loop that was told and has since spent more than a tenth of the budget is ended at its third repeat."""
    for limit, ended in ((2_000, True), (100_000, False)):
        agent = Agent(limit=limit)
        for _ in range(4):
            agent.call("look", {}, "nothing")
        assert (agent.verdicts[-1].action == "finish") is ended
        assert (agent.verdicts[-1].why == "money") is ended


def test_repeated_text_is_a_loop() -> None:
    """The same answer a fifth time: told; an eighth: ended; a tool call in between: neither."""
    agent = Agent()
    actions = [said(agent.guard, agent.state, "h", Spent()) for _ in range(8)]
    assert [verdict and verdict.action for verdict in actions] == [
        None, None, None, None, "nudge", None, None, "finish",
    ]  # fmt: skip
    agent.call("look", {}, "something")
    assert said(agent.guard, agent.state, "h", Spent()) is None


def test_results_beyond_the_masked_part_count() -> None:
    """A change in the middle of a long result is something new, and so is its length."""
    agent = Agent()
    for n in range(8):
        agent.call("dump", {}, "a" * 50_000 + str(n) + "b" * 50_000)
        agent.call("dump", {"all": True}, "c" * (100_000 + n))
    assert agent.actions() == []


def test_a_state_survives_a_checkpoint() -> None:
    """Plain data: through JSON in the middle of a loop, and the next word is the same."""
    before, after = identical(), identical()
    after.state = type(after.state).load(json.loads(json.dumps(after.state.dump())))
    assert after.state == before.state
    for agent in (before, after):
        agent.call("other", {}, "x")
        agent.call("other", {}, "x")
    assert before.verdicts == after.verdicts


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"nudge": 0}, ConfigError, "nudge=0"),
        ({"finish": True}, ConfigError, "finish=True"),
        ({"nudge": 5}, ConfigError, "nudge=5, block=4"),
        ({"identical": 1}, ConfigError, "identical=1"),
        ({"on_loop": "explode"}, ConfigError, "explode"),
        ({"budget_share": "110%"}, ConfigError, "110%"),
        ({"budget_share": 0.1}, ConfigError, "0.1"),
        ({"approve": 7}, TypeError, "approve=7"),
        ({"tools": {"a": "poll"}}, TypeError, "poll"),
    ],
)
def test_what_cannot_be_meant_is_named(options: dict[str, object], error: type[Exception], says: str) -> None:
    """Rungs out of order, shares that are none, declarations that are none: an error with the value."""
    with pytest.raises(error, match=says):
        LoopGuard(**options)  # type: ignore[arg-type]  # wrong on purpose


def test_traits_that_cannot_be_meant_are_named() -> None:
    """An unknown effect and a key that is neither fields nor a function."""
    with pytest.raises(ConfigError, match="delete"):
        ToolTraits(effect="delete")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match="loop_key=7"):
        ToolTraits(loop_key=7)  # type: ignore[arg-type]  # wrong on purpose
