"""`bursar.tool`: a function of a hand-written loop as a step of the run, limited, charged and recorded."""

from __future__ import annotations

import asyncio
import functools
import inspect
import warnings
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, TypeVar, cast, overload

from bursar.callbacks.gated_tools import MORE, SELF, edited, refusal, standing
from bursar.callbacks.tool_loops import RefusedError, aapproved, approved, concluded, judge
from bursar.clients.doors import go_without, owner_of, prepare
from bursar.flow.call import Result, ToolStep, ToolUse
from bursar.flow.tool_call import close_tool, open_tool
from bursar.runs.drive import adrive, drive
from bursar.runs.frames import client_frame, make_who
from bursar.runs.process import process
from bursar.runs.scoped import ScopedFrame, scoped_frame
from bursar.tracing.content import LONGEST_TEXT, Contents, Part
from bursar.tracing.redact import redact
from bursar.words.canonical import canonical, size_of, type_name
from bursar.words.clock import new_id
from bursar.words.errors import ApprovalDenied, BursarWarning, ConfigError, Stopped, StoreUnavailable
from bursar.words.events import Status
from bursar.words.tools import EFFECTS, ToolSpec, declared, parse_tool_fee, rule_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

P = ParamSpec("P")
R = TypeVar("R")

_LONGEST_NAME: Final = 200
_MOST_KEPT: Final = 20_000
"""Values kept of one call's arguments or result, where content is kept."""
_own: ScopedFrame | None = None


class _Tool(NamedTuple):
    """A decorated function: what was declared, and the names of what can be given by position."""

    spec: ToolSpec
    names: tuple[str, ...]


@overload
def tool(fn: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def tool(
    *,
    usd: str | int | Decimal | None = None,
    effect: str | None = None,
    name: str | None = None,
    loop_key: Callable[..., object] | None = None,
    exempt: bool = False,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def tool(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    usd: str | int | Decimal | None = None,
    effect: str | None = None,
    name: str | None = None,
    loop_key: Callable[..., object] | None = None,
    exempt: bool = False,
) -> Any:
    """Make each call of a function a step of the run: `@bursar.tool(usd="0.02", effect="write")`, sync or async.

    Before the function runs, its price `usd` and one of `tool_calls` are taken from every limit around it, or
    `BudgetExceeded` is raised; a call that fails is charged all the same. Before its value is returned, the call is one
    row of the ledger. What the function raises passes untouched. Outside of a run calls are recorded, and held by
    limits that processes share.

    Inside a run with a `LoopGuard` a call that the guard refuses is not made: a text that the model should read is
    returned in place of the function's value, and nothing is charged.

    `usd`: what one call costs, as a str, an int or a Decimal ("0" for nothing); without it what `bursar.toml` says
    under `[tool."name*"]`, else it is unknown: NULL in the ledger, and no limit in dollars counts it. `effect`: "read",
    "idempotent", "write" or "poll". `name`: as the model knows the tool, else the function's. `loop_key` and `exempt`
    are for loop guards: a function of the arguments that says what makes two calls the same, and a tool whose calls
    make no loop.

    Raises `TypeError` for what is no function, and for a generator: its value is not there when it returns.
    `ConfigError` for an effect that is none, a price that cannot be meant, a name that is empty.
    """
    nusd = None if usd is None else parse_tool_fee(usd, "usd")
    if effect is not None and effect not in EFFECTS:
        raise ConfigError(f"effect={effect!r} is none of {', '.join(EFFECTS)}")
    if name is not None and (type(name) is not str or not 0 < len(name.strip()) <= _LONGEST_NAME):
        raise ConfigError(f"name={name!r:.80} is not the name of a tool, a text of 1 to {_LONGEST_NAME} characters")
    if loop_key is not None and not callable(loop_key):
        raise TypeError(f"loop_key={loop_key!r:.80} is no function of the tool's arguments")

    def decorated(fn: Callable[..., Any]) -> Any:
        _check(fn)
        spec = ToolSpec(name or fn.__name__, nusd, effect, loop_key, exempt is True)
        declared[spec.name] = spec
        made = _Tool(spec, _names(fn))
        return _awaited(fn, made) if inspect.iscoroutinefunction(fn) else _called(fn, made)

    return decorated if fn is None else decorated(fn)


def _called(fn: Callable[P, R], made: _Tool) -> Callable[P, R]:
    @functools.wraps(fn)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        step = _begin(made, args, kwargs)
        try:
            use = _open(step)
        except RefusedError as refused:
            # What the model reads in place of a result; the function's own type is not asked for.
            return cast("R", refused.text)
        except ApprovalDenied as denied:
            return cast("R", refusal(denied))
        try:
            if step.gate is not None and step.gate.edited is not None:
                value = cast("R", edited(fn, step, args, kwargs))
            else:
                value = fn(*args, **kwargs)
        except BaseException as error:
            _close(step, use, error=error)
            raise
        _close(step, use, value)
        return value

    return called


def _awaited(fn: Callable[P, Any], made: _Tool) -> Callable[P, Any]:
    @functools.wraps(fn)
    async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
        step = _begin(made, args, kwargs)
        try:
            use = await _aopen(step)
        except RefusedError as refused:
            return refused.text
        except ApprovalDenied as denied:
            return refusal(denied)
        try:
            if step.gate is not None and step.gate.edited is not None:
                value = await edited(fn, step, args, kwargs)
            else:
                value = await fn(*args, **kwargs)
        except GeneratorExit as error:
            # The coroutine is thrown away: it may not await any more.
            _close(step, use, error=error)
            raise
        except BaseException as error:
            await _aclose(step, use, error=error)
            raise
        await _aclose(step, use, value)
        return value

    return awaited


def _check(fn: Any) -> None:
    if isinstance(fn, staticmethod | classmethod):
        raise TypeError(f"write @{type(fn).__name__} above @bursar.tool: a tool is the function itself")
    if not inspect.isroutine(fn):
        raise TypeError(f"bursar.tool takes a function, not {type_name(fn)}; decorate the function that does the work")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(
            f"{fn.__qualname__} is a generator: what it yields comes after it has returned. Decorate a function that "
            "collects it, as in: return list(...)"
        )


def _names(fn: Callable[..., Any]) -> tuple[str, ...]:
    try:
        found = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        # Some functions written in C do not say.
        return ()
    return tuple(each.name for each in found if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD))


def _begin(made: _Tool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ToolStep:
    frame = scoped_frame() or _outside()
    owner = frame.owner
    owner.adopt()
    spec, names = made
    given: dict[str, Any] = dict(zip(names, args, strict=False))
    if names and names[0] in SELF:
        given.pop(names[0], None)
    given.update(kwargs)
    if len(args) > len(names):
        given[MORE] = args[len(names) :]
    written = canonical(given)
    args_hash = owner.fingerprints.of(written.data)
    rule = rule_for(owner.settings.tools, spec.name)
    step = ToolStep(
        new_id(), spec.name, frame, args_hash, rule.nusd if spec.nusd is None else spec.nusd, spec.effect or rule.effect
    )
    if not written.whole:
        step.flags = ("args_lossy",)
    if frame.run is not None:
        step.step = frame.run.steps
    if owner.contents is not None:
        step.words = f"{spec.name} {_words(given)}"
    if frame.loops is not None and written.whole:
        step.given = written.data.decode()
    prepare(step, frame)
    if frame.gates is not None:
        step.gate = standing(spec.name, given)
        # What was said of it at an outer door stands beside it.
        step.op_id = step.gate.op_id or step.op_id
    return step


def _open(step: ToolStep) -> ToolUse:
    owner = owner_of(step)
    with _Claim(step):
        verdict = judge(step)
        if verdict is not None:
            drive(concluded(step, verdict, owner.world, yes=approved(step, verdict)), owner.desk)
        try:
            return drive(open_tool(step, owner.world), owner.desk)
        except StoreUnavailable:
            go_without(step, owner)
            return drive(open_tool(step, owner.world), owner.desk)


async def _aopen(step: ToolStep) -> ToolUse:
    owner = owner_of(step)
    with _Claim(step):
        verdict = judge(step)
        if verdict is not None:
            yes = await aapproved(step, verdict)
            await adrive(concluded(step, verdict, owner.world, yes=yes), owner.desk)
        try:
            return await adrive(open_tool(step, owner.world), owner.desk)
        except StoreUnavailable:
            go_without(step, owner)
            return await adrive(open_tool(step, owner.world), owner.desk)


class _Claim:
    """Takes the call that an answer asked for; what is refused is given back, to be tried again."""

    def __init__(self, step: ToolStep) -> None:
        self._step, self._asks = step, step.frame.asks
        self._found = None if self._asks is None else self._asks.claim(step.name, step.args_hash)

    def __enter__(self) -> None:
        step = self._step
        if self._found is not None:
            asked, same = self._found
            step.requested_by, step.step, step.counted = asked.call_id, asked.step, asked.counted
            step.tool_call_id = asked.tool_call_id if same else None
            if not same:
                step.flags += ("matched_by_name",)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        step = self._step
        if self._asks is None:
            return
        if kind is not None and self._found is not None:
            self._asks.give_back(step.name, self._found[0])
        elif kind is None and step.frame.run is not None:
            step.repeat_index = self._asks.begin(step.name, step.args_hash)


def _close(step: ToolStep, use: ToolUse, value: Any = None, *, error: BaseException | None = None) -> None:
    owner = owner_of(step)
    try:
        ending = _ending(step, use, value, error)
        drive(close_tool(step, use, *ending, owner.world), owner.desk)
        if owner.contents is not None:
            _keep(owner.contents, step, use, value, error)
    except BursarWarning:
        # Said by the budget after all was charged; the caller has asked for warnings to be errors.
        raise
    except Exception as failure:  # noqa: BLE001 - what the tool did is done: its value must reach the caller
        _say(use, failure)


async def _aclose(step: ToolStep, use: ToolUse, value: Any = None, *, error: BaseException | None = None) -> None:
    owner = owner_of(step)
    try:
        ending = _ending(step, use, value, error)
        await adrive(close_tool(step, use, *ending, owner.world), owner.desk, whole=True)
        if owner.contents is not None:
            await asyncio.to_thread(_keep, owner.contents, step, use, value, error)
    except BursarWarning:
        # As above.
        raise
    except Exception as failure:  # noqa: BLE001 - as above
        _say(use, failure)


def _ending(step: ToolStep, use: ToolUse, value: Any, error: BaseException | None) -> tuple[Status, str | None]:
    if error is None:
        written = canonical(value)
        use.result = Result(owner_of(step).fingerprints.of(written.data), size_of(value, written), written.whole)
        return Status.OK, None
    if isinstance(error, Stopped):
        return Status.BLOCKED, type_name(error)
    stopped = isinstance(error, asyncio.CancelledError | KeyboardInterrupt | GeneratorExit | SystemExit)
    return Status.CANCELLED if stopped else Status.ERROR, type_name(error)


def _keep(contents: Contents, step: ToolStep, use: ToolUse, value: Any, error: BaseException | None) -> None:
    said = _words(value) if error is None else type_name(error)
    contents.keep(use.call_id, [Part("tool call", step.words or step.name)], [Part("tool result", said)])


def _words(value: Any) -> str:
    if type(value) is str:
        return value
    return canonical(value, nodes=_MOST_KEPT, text=LONGEST_TEXT).data.decode()


def _outside() -> ScopedFrame:
    global _own  # noqa: PLW0603
    found = _own
    if found is None or found.owner is not process():
        # Reconfigured, or forked: outside of a run calls belong to the process as it is now.
        found = _own = client_frame(make_who(None), ())
    return found


def _say(use: ToolUse, error: Exception) -> None:
    what = redact(f"{type(error).__name__}: {error}")
    warnings.warn(
        f"the end of tool call {use.call_id} could not be recorded ({what}). Please report this.",
        BursarWarning,
        stacklevel=4,
    )
