"""`bursar import`: other people's logs into the ledger."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

import typer

from bursar.cli.console import fail, output, progress, safe, warn
from bursar.cli.ledger_option import LedgerOption, ledger_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bursar.importers.reading import Imported
    from bursar.tracing.imports import Entry, Tally
    from bursar.words.errors import RecordingError

_EPILOG = (
    "Examples: bursar import (the transcripts of Claude Code); bursar import usage.csv --workflow-from key; "
    "bursar import answers.jsonl --workflow triage --dry-run. "
    "Exit codes: 0 all was read, 1 something was passed over or nothing was found, 2 usage."
)
_SHOWN: Final = 10
_SUFFIXES: Final = (".jsonl", ".json", ".csv")
_BLIND: Final = (
    "an export has sums: it knows no single call, run or session, no latency, no retries, no prompt\n"
    "version, and not which code behind a key it was"
)


@dataclass(slots=True)
class Summary:
    """What all files came to."""

    files: int = 0
    unchanged: int = 0
    lines: int = 0
    new: int = 0
    grown: int = 0
    known: int = 0
    merged: int = 0
    nusd: int = 0
    unpriced: Counter[str] = field(default_factory=Counter)
    uncounted: int = 0
    unfinished: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    problems: list[RecordingError] = field(default_factory=list)

    def add(self, read: Imported) -> None:
        """Take in one file that was read."""
        from bursar.importers.priced import UNFINISHED

        found = read.found
        self.files += 1
        self.lines += found.lines
        self.merged += found.merged
        self.skipped += found.skipped
        self.problems += found.problems
        self.sources[read.source] += len(found.entries)
        for entry in found.entries:
            self.unfinished += UNFINISHED in entry.call.flags
            self.nusd += entry.call.cost_nusd or 0
            self.uncounted += entry.requests is None and read.provider is not None
            if entry.call.cost_nusd is None:
                self.unpriced[entry.call.request_model] += 1

    def count(self, tally: Tally) -> None:
        """Take in what became of entries."""
        self.new += tally.new
        self.grown += tally.grown
        self.known += tally.known


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("import", epilog=_EPILOG)(import_command)


def import_command(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files, or folders of them; without any ~/.claude/projects.")
    ] = None,
    workflow: Annotated[str | None, typer.Option(help="The workflow of transcripts and messages.")] = None,
    workflow_from: Annotated[
        str, typer.Option(help="What names the workflows of an export: project, key or user.")
    ] = "project",
    beside: Annotated[
        bool, typer.Option("--beside", help="Import an export although the ledger has other rows of that time.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Read files too that have not changed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and count; write nothing.")] = False,
    ledger: LedgerOption = None,
    json: Annotated[bool, typer.Option("--json", help="The counts as one JSON object.")] = False,
) -> None:
    """Bring transcripts of Claude Code, exports of OpenAI and Anthropic, and kept messages into the ledger.

    Each thing becomes one row at its own time, however often it is read; the tag `source` says where it came from.
    """
    from bursar.importers.priced import Pricer
    from bursar.importers.usage import NAMES
    from bursar.pricing.shelf import price_list
    from bursar.settings.config import read_settings

    if workflow_from not in NAMES:
        raise typer.BadParameter(f"--workflow-from {workflow_from!r} is none of {', '.join(NAMES)}")
    files, path = _files(paths), ledger_path(ledger)
    pricer = Pricer(price_list(path, read_settings({})))
    summary, readers = Summary(), (workflow, workflow_from)
    with _Target(path, dry_run=dry_run, beside=beside, again=again) as target:
        for file in progress(files, "files", total=len(files)):
            _one(file, pricer, readers, target, summary)
    if json:
        _show_json(summary, dry_run=dry_run)
    else:
        _show(summary, dry_run=dry_run)
    if summary.problems or not (summary.new or summary.grown or summary.known or summary.unchanged):
        raise typer.Exit(1)


def _files(paths: list[Path] | None) -> list[Path]:
    from bursar.importers.claude_code import home, transcripts

    if not paths:
        found = transcripts(home())
        if not found:
            fail(f"there are no transcripts below {home()}; name a file: bursar import usage.csv")
        return found
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file()]
            if not inside:
                fail(f"{path} has no file that ends in {', '.join(_SUFFIXES)}")
            files += sorted(inside, key=lambda file: (file.stat().st_mtime_ns, str(file)))
        else:
            files.append(path)
    return files


def _one(file: Path, pricer: Any, readers: tuple[str | None, str], target: _Target, summary: Summary) -> None:
    from bursar.importers.reading import read_any
    from bursar.tracing.imports import stamp_of
    from bursar.words.errors import LedgerError, RecordingError

    try:
        stamp = stamp_of(file)
        if target.unchanged(file):
            summary.unchanged += 1
            return
        read = read_any(file, pricer, workflow=readers[0], name=readers[1])
        refused = target.refuses(read)
    except LedgerError as error:
        summary.problems.append(RecordingError(str(file), None, str(error)))
        return
    except RecordingError as error:
        summary.problems.append(error)
        return
    summary.add(read)
    if refused:
        summary.problems.append(RecordingError(str(file), None, refused))
        return
    target.take(read.found.entries, stamp, summary.count)


class _Target:
    """Where entries go: the ledger, or nowhere."""

    def __init__(self, path: Path, *, dry_run: bool, beside: bool, again: bool) -> None:
        self._path, self._dry, self._beside, self._again = path, dry_run, beside, again

    def __enter__(self) -> Self:
        from bursar.tracing.imports import Imports, open_reader
        from bursar.tracing.ledger import Ledger

        self._ledger = None if self._dry else Ledger(self._path)
        self._imports = None if self._ledger is None else Imports(self._ledger)
        if self._ledger is not None:
            # Brought up to date before it is read.
            self._ledger.database()
        self._reader = open_reader(self._path)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._reader is not None:
            self._reader.__exit__(*exc)
        if self._ledger is not None:
            self._ledger.close()

    def unchanged(self, file: Path) -> bool:
        """Whether there is nothing to do about a file."""
        return not self._again and self._imports is not None and self._imports.is_known(file)

    def refuses(self, read: Imported) -> str | None:
        """Why an export is not taken in: the ledger has that time already, from somebody else."""
        if read.provider is None or self._reader is None or self._beside:
            return None
        others = self._reader.others(read.provider, read.found.entries, read.since_us, read.until_us)
        if not others:
            return None
        return (
            f"is not imported: the ledger has {others:,} other rows of {read.provider} in its time, which would count "
            "twice. Compare them: bursar reconcile FILE; or import it into a ledger of its own (--ledger), or --beside"
        )

    def take(self, entries: Sequence[Entry], stamp: tuple[str, int, int], count: Callable[[Tally], None]) -> None:
        """Write down, or say what would be."""
        from bursar.tracing.imports import Tally

        if self._imports is not None:
            for tally in self._imports.take(entries):
                count(tally)
            self._imports.note(stamp)
        else:
            count(self._reader.judge(entries) if self._reader is not None else Tally(new=len(entries)))


def _show(summary: Summary, *, dry_run: bool) -> None:
    from bursar.words.money import show_usd

    would = "would be " if dry_run else ""
    unchanged = f", {summary.unchanged:,} unchanged files not read again" if summary.unchanged else ""
    output(f"{summary.files:,} files, {summary.lines:,} lines{unchanged}")
    if summary.files:
        sources = ", ".join(f"{source} {number:,}" for source, number in summary.sources.items())
        output(f"{sources}: {summary.new:,} rows {would}new, {summary.grown:,} {would}grown, {summary.known:,} known")
        output(f"together {show_usd(summary.nusd)} at the list prices of their days" + _unpriced(summary.unpriced))
    if summary.unfinished:
        output(f"at least that: of {summary.unfinished:,} answers the log has the output as it was at their beginning")
    if summary.merged:
        output(f"one with another line: {summary.merged:,}")
    if summary.skipped:
        output("passed over: " + _reasons(summary.skipped.most_common()))
    for problem in summary.problems[:_SHOWN]:
        warn(f"not understood: {safe(str(problem), 400)}")
    if len(summary.problems) > _SHOWN:
        warn(f"not understood: {len(summary.problems) - _SHOWN:,} more")
    if any(source.endswith(("-usage", "-costs")) for source in summary.sources):
        uncounted = "; this one does not even say how many calls" if summary.uncounted else ""
        output(_BLIND + uncounted)
    if summary.new and not dry_run:
        output("next: bursar report --by model --since 30d · bursar explain")


def _unpriced(models: Counter[str]) -> str:
    if not models:
        return ""
    named = _reasons((safe(model, 40), number) for model, number in models.most_common(5))
    return f"; {models.total():,} rows without a price: {named} (bursar prices set, then import --again)"


def _reasons(pairs: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{reason} {number:,}" for reason, number in pairs)


def _show_json(summary: Summary, *, dry_run: bool) -> None:
    import orjson

    plain = {name: getattr(summary, name) for name in Summary.__slots__ if name != "problems"}
    problems = [{"path": each.path, "line": each.line, "what": str(each)} for each in summary.problems]
    output(orjson.dumps(plain | {"problems": problems, "dry_run": dry_run}, default=dict).decode())
