"""What operators type: every command of the CLI, with what of the live ledger it is pointed at, and how it may end."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import apsw

from scripts.soak import papers

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from scripts.soak.house import House

TAGS: Final = (
    "workflow", "model", "user", "session", "feature", "owner", "tenant", "env", "release", "prompt_version",
    "provider", "tier", "path", "request_model", "fallback_from", "system_hash", "tools_hash", "hour", "day", "week",
    "month", "agent", "node", "source", "feature,model", "user,day",
)  # fmt: skip
FROZEN_S: Final = 1.0
"""How long a user's calls are refused by hand."""
_SHIFT_S: Final = 60.0
"""A user whose last run ended before that does not come again."""
_IDS: Final = (
    "run_id FROM run",
    "call_id FROM model_call",
    "response_id FROM model_call",
    "request_id FROM model_call",
)
_ANSWERED: Final = """
    SELECT c.session_id FROM model_call c JOIN ending e ON e.id = c.ending WHERE e.status = 'ok' AND c.input_tokens > 0
"""
"""Of a session whose calls have all failed there is no turn to show."""


class Command(NamedTuple):
    """One line of a shell. `reads`: how its output is read (`outputs.READERS`); `ok`: exit codes that are fine."""

    words: tuple[str, ...]
    reads: str = "text"
    ok: tuple[int, ...] = (0,)
    told: str = ""
    ledger: Path | None = None

    @property
    def name(self) -> str:
        """The command without what it is pointed at."""
        group = self.words[:1] in (("limits",), ("prices",), ("approvals",)) and self.words[1:2]
        return " ".join(("bursar", *self.words[:1], *(() if not group or group[0].startswith("-") else group)))


class Desk:
    """Thinks of commands. `house` is where the program runs; papers are written beside its ledger."""

    def __init__(self, house: House, dice: random.Random) -> None:
        self.house, self.dice, self.forgotten = house, dice, set[str]()
        self.folder = house.place / "operators"
        self.folder.mkdir(exist_ok=True)
        self._deck: list[Callable[[], list[Command]]] = []
        self._made: tuple[Callable[[], list[Command]], ...] = (
            self.first_screen, self.report, self.report, self.explain, self.trace, self.trace, self.sessions,
            self.statusline, self.ready, self.whatif, self.prices, self.newer, self.limits, self.change, self.freeze,
            self.suggest, self.approvals, self.doctor, self.forget, self.bring, self.replay,
        )  # fmt: skip

    def learn(self, *more: Callable[[], list[Command]]) -> None:
        """Think of these as well."""
        self._made += more

    def next(self) -> list[Command]:
        """One command, or some that belong together: all there are once, in another order each time."""
        if not self._deck:
            self._deck = self.dice.sample(self._made, len(self._made))
        return self._deck.pop()()

    def first_screen(self) -> list[Command]:
        """Today against the limits."""
        return [Command(())]

    def report(self) -> list[Command]:
        """By any tag, of any time, in any format."""
        words = ["report", "--by", self.dice.choice(TAGS)]
        words += self.dice.choice([[], ["--since", "24h"], ["--since", "30d"], ["--until", "1h"], ["--since", "1h"]])
        reads = self.dice.choice(["table", "json", "csv", "markdown", "html"])
        words += {"table": [], "html": ["--html", str(self.folder / "page.html")]}.get(reads, [f"--{reads}"])
        return [Command(tuple(words), "text" if reads in ("table", "markdown") else reads, (0, 1))]

    def explain(self) -> list[Command]:
        """What changed."""
        return [Command(("explain", "--days", str(self.dice.randint(1, 9)), "--json"), "json", (0, 1))]

    def trace(self) -> list[Command]:
        """Of anything that has an id, all of it or its beginning."""
        name = self.one(self.dice.choice(_IDS))
        if name is None:
            return [Command(("trace", "last"), ok=(0, 1))]
        if self.dice.random() < 0.2:
            return [Command(("trace", name[:-2], "--json"), ok=(0, 1))]
        form, reads = self.dice.choice([(["--json"], "json"), ([], "text"), (["--content"], "text")])
        return [Command(("trace", name, *form), reads)]

    def sessions(self) -> list[Command]:
        """All, or one."""
        name = self.one(f"session_id FROM ({_ANSWERED})")
        return [Command(("sessions", *([] if name is None or self.dice.random() < 0.5 else [name]), "--json"), "json")]

    def statusline(self) -> list[Command]:
        """As a coding agent asks for it."""
        path = papers.transcript(self.folder, "status", turns=4)
        told = {"session_id": "status", "transcript_path": str(path), "model": {"id": papers.MODEL}}
        return [Command(("statusline", *self.dice.choice([[], ["--no-import"]])), told=json.dumps(told))]

    def ready(self) -> list[Command]:
        """Of a workflow that was seen."""
        return [Command(("ready", self.one("workflow FROM dimension") or "none", "--json"), "json", (0, 1))]

    def whatif(self) -> list[Command]:
        """At another price."""
        change = [["--model", "claude-haiku-5-5"], ["--tier", "batch"], ["--cached", "0.8"], []]
        return [Command(("whatif", *self.dice.choice(change), "--json"), "json", (0, 1))]

    def prices(self) -> list[Command]:
        """Look them up, set one of a model that nobody calls, list what has none."""
        return [
            self.dice.choice([
                Command(("prices", "claude-haiku-5-5", "--json"), "json"),
                Command(("prices", "unpriced", "--json"), "json", (0, 1)),
                Command(("prices", "set", "nobodys-model", "--input", str(self.dice.randint(1, 9)), "--output", "10")),
            ])
        ]  # fmt: skip

    def newer(self) -> list[Command]:
        """Newer lists for another ledger, looked at there, and back; the one that is written to keeps its own."""
        (elsewhere := self.folder / "elsewhere").mkdir(exist_ok=True)
        sonnet, gpt = ("claude-sonnet-5-5", self.dice.randint(1, 9), 10, 0.1), ("gpt-4o", 2.5, 10, 1.25)
        listed = {"anthropic": (sonnet,), "openai": (gpt,)}
        ledger, path = elsewhere / "ledger.db", papers.prices(self.folder, listed, "prices.json")
        return [
            Command(("prices", "update", str(path), "--force"), ledger=ledger),
            Command(("prices", "claude-sonnet-5-5", "--json"), "json", ledger=ledger),
            Command(("prices", "update", "--undo"), ledger=ledger),
        ]

    def limits(self) -> list[Command]:
        """All that stand, and who holds what of them."""
        return [Command(("limits", *self.dice.choice([[], ["--holders"], ["--all"]]), "--json"), "limits")]

    def change(self) -> list[Command]:
        """The environment's limit goes up, a user's down: the judge's limits stay what at most may be spent."""
        up = Command(("limits", "raise", "env/production", "usd", "1"), ok=(0, 1))
        free = Command(("limits", "release", "01ARZ3NDEKTSV4RRFFQ69G5FAV/0", "--evidence", "there is none"), ok=(1,))
        user = self.user(now=True)
        down = [] if user is None else [Command(("limits", "set", f"user/{user}", "usd", "0.55"), ok=(0, 1))]
        return [self.dice.choice([up, free, *down])]

    def freeze(self) -> list[Command]:
        """Refuse a user's calls for a moment. He may have made none yet."""
        user = self.user(now=True)
        scope = f"user/{user}"
        return [] if user is None else [Command(("limits", how, scope), ok=(0, 1)) for how in ("freeze", "thaw")]

    def suggest(self) -> list[Command]:
        """Limits from what was spent."""
        return [Command(("limits", "suggest"), "toml", (0, 1))]

    def approvals(self) -> list[Command]:
        """Questions that wait."""
        return [Command(("approvals", "list", *self.dice.choice([[], ["--all"]]), "--json"), "json", (0, 1))]

    def doctor(self) -> list[Command]:
        """It must be sound."""
        return [Command(("doctor", "--json"), "json")]

    def forget(self) -> list[Command]:
        """Somebody who does not come again; the second time there is nothing of him."""
        user = self.user(now=False)
        if user is None:
            return []
        self.forgotten.add(user)
        words = ("forget", "--user", user, "--yes", "--json")
        return [Command(words, "json", (0, 1)), Command(words, ok=(1,))]

    def bring(self) -> list[Command]:
        """Logs of others and old exports; what is read a second time adds nothing."""
        number = str(self.dice.randrange(10**6))
        made = self.dice.choice([papers.transcript, papers.answers, papers.old_usage, papers.old_costs])
        words = ("import", str(made(self.folder, number)), "--beside", "--json")
        return [Command(words, "new"), Command(words, "none new"), Command((*words, "--again"), "none new")]

    def replay(self) -> list[Command]:
        """A conversation as it was kept, against a budget."""
        path = papers.answers(self.folder, "replayed")
        return [Command(("replay", str(path), "--usd", "0.0001", "--json"), "lines")]

    def user(self, *, now: bool) -> str | None:
        """Somebody who comes at this time, or who does not come again."""
        path = self.house.diary_path
        if not path.exists():
            return None
        seen: dict[str, float] = {}
        for line in path.read_text().splitlines():
            ended = json.loads(line)
            seen[ended[1]] = ended[8]
        since = time.time() - _SHIFT_S
        fit = sorted(user for user, at in seen.items() if (at > since) == now and user not in self.forgotten)
        return self.dice.choice(fit[-8:] if now else fit) if fit else None

    def one(self, what: str) -> str | None:
        """Something that the ledger has at this moment."""
        name = what.partition(" ")[0]
        query = f"SELECT {what} WHERE {name} IS NOT NULL ORDER BY random() LIMIT 1"
        with_ledger = apsw.Connection(str(self.house.ledger), flags=apsw.SQLITE_OPEN_READONLY)
        with_ledger.set_busy_timeout(5_000)
        try:
            return next((str(row[0]) for row in with_ledger.execute(query)), None)
        finally:
            with_ledger.close()


def snapshot(ledger: Path, path: Path) -> Any:
    """Copy the ledger as it is at one moment; the sums of its rows."""
    # The sums beside the copy before stay: bursar has to see that they are not of this one.
    path.unlink(missing_ok=True)
    source = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
    source.set_busy_timeout(30_000)
    source.execute("VACUUM INTO ?", (str(path),))
    source.close()
    copy = apsw.Connection(str(path))
    sums = copy.execute("""
        SELECT (SELECT count(*) FROM model_call), (SELECT coalesce(sum(cost_nusd), 0) FROM model_call),
               (SELECT coalesce(sum(input_tokens + output_tokens), 0) FROM model_call)
    """).fetchall()[0]
    copy.close()
    return sums
