"""What the rules of gates say of a call. A function of what is given: a call is judged the same when it comes again."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.words.money import show_usd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from decimal import Decimal

    from bursar.words.questions import Step

TOP: Final = "top"
"""In place of a model's name: those in the upper half of their vendor's prices."""
FULL: Final = "full"
"""What a rule asks about that asks where a budget has no room."""


class Subject(NamedTuple):
    """A call as rules see it. `likely_nusd`, `bound_nusd`: None where no price is known.

    left_nusd: dollars that the tightest limit has left, None where dollars are not limited. top: whether the model is
    of the top tier. dearer: in which way the model is dearer than it was to be, None where it is not. full: in which
    way it does not fit a budget that an answer may raise, None where it fits.
    """

    kind: str
    name: str
    likely_nusd: int | None
    bound_nusd: int | None
    left_nusd: int | None = None
    effect: str | None = None
    arguments: Mapping[str, Any] | None = None
    top: bool = False
    dearer: str | None = None
    full: str | None = None


class Ruling(NamedTuple):
    """What one rule says of a call. action: "ask" or "deny"; `limit_nusd` is the amount that it is above, if any."""

    action: str
    rule: Rule
    why: str
    limit_nusd: int | None = None


class Rule(NamedTuple):
    """A gate as it is applied; `text` is how it is written, which is also how it is known in the ledger."""

    kinds: tuple[str, ...]
    tool: str | None
    effects: tuple[str, ...]
    model: str | None
    top: tuple[str, ...]
    when: Callable[[dict[str, Any]], object] | None
    ask: str | None
    deny: bool
    ask_nusd: int | None
    deny_nusd: int | None
    ask_share: Decimal | None
    approvers: tuple[Step, ...]
    timeout_us: int | None
    count_wait: bool
    text: str
    origin: str = ""

    @property
    def narrow(self) -> bool:
        """Whether it names the calls that it is about."""
        return any((self.tool, self.effects, self.model, self.when))


def judge(rules: Sequence[Rule], subject: Subject) -> tuple[Ruling, ...]:
    """What the rules say of a call: denials first, then questions, each in the order of the rules."""
    rulings = [ruling for rule in rules if (ruling := _ruling(rule, subject)) is not None]
    return tuple(sorted(rulings, key=lambda ruling: ruling.action != "deny"))


def _ruling(rule: Rule, subject: Subject) -> Ruling | None:
    if subject.kind not in rule.kinds or not _matches(rule, subject):
        return None
    told = ""
    if rule.when is not None:
        try:
            wanted = rule.when(dict(subject.arguments or {}))
        except Exception as error:  # noqa: BLE001 - a predicate that fails has not said that the call is harmless
            wanted, told = True, f" (when= raised {type(error).__name__})"
        if not wanted:
            return None
    found = _denial(rule, subject) or _question(rule, subject)
    return found._replace(why=found.why + told) if found is not None and told else found


def _matches(rule: Rule, subject: Subject) -> bool:
    if rule.tool is not None and not fnmatchcase(subject.name, rule.tool):
        return False
    if rule.effects and subject.effect not in rule.effects:
        return False
    if rule.model == TOP:
        return any(fnmatchcase(subject.name, top) for top in rule.top) if rule.top else subject.top
    return rule.model is None or fnmatchcase(subject.name, rule.model)


def _denial(rule: Rule, subject: Subject) -> Ruling | None:
    if rule.deny:
        return Ruling("deny", rule, f"{subject.kind} {subject.name} is not allowed")
    if rule.deny_nusd is None:
        return None
    if subject.bound_nusd is None:
        if subject.kind == "tool" and not rule.narrow:
            return None
        return Ruling("deny", rule, f"its price is unknown, and no more than {show_usd(rule.deny_nusd)} is allowed")
    if subject.bound_nusd <= rule.deny_nusd:
        return None
    most, limit = show_usd(subject.bound_nusd), show_usd(rule.deny_nusd)
    return Ruling("deny", rule, f"it can cost {most}, above the {limit} that is allowed at most", rule.deny_nusd)


def _question(rule: Rule, subject: Subject) -> Ruling | None:
    if rule.ask == "always":
        return Ruling("ask", rule, f"every call of {subject.kind} {subject.name} is asked about")
    if rule.ask == "dearer" and subject.dearer is not None:
        return Ruling("ask", rule, subject.dearer)
    if rule.ask == FULL and subject.full is not None:
        return Ruling("ask", rule, subject.full)
    if rule.ask_nusd is None and rule.ask_share is None:
        return None
    if subject.likely_nusd is None:
        # A tool that nobody has named a price for is asked about by gates that name it.
        silent = subject.kind == "tool" and not rule.narrow
        return None if silent else Ruling("ask", rule, "its price is unknown")
    return _too_dear(rule, subject, subject.likely_nusd)


def _too_dear(rule: Rule, subject: Subject, likely_nusd: int) -> Ruling | None:
    if rule.ask_nusd is not None and likely_nusd > rule.ask_nusd:
        likely, limit = show_usd(likely_nusd), show_usd(rule.ask_nusd)
        return Ruling("ask", rule, f"it will probably cost {likely}, above {limit}", rule.ask_nusd)
    if rule.ask_share is None or subject.left_nusd is None:
        return None
    part = int(max(0, subject.left_nusd) * rule.ask_share)
    if likely_nusd <= part:
        return None
    share, left = f"{rule.ask_share * 100:f}".rstrip("0").rstrip("."), show_usd(max(0, subject.left_nusd))
    return Ruling("ask", rule, f"it will probably cost more than {share} % of the {left} left", part)
