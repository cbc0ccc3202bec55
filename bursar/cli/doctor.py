"""`bursar doctor`: is this installation sound, and what mends it? It looks, and changes nothing."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from bursar.cli.console import output, safe
from bursar.cli.ledger_option import LedgerOption, ledger_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bursar.db import Database

_EPILOG = "Example: bursar doctor --json. Exit codes: 0 sound (warnings do not count), 1 something is wrong, 2 usage."
_SDKS: Final = {"anthropic": ("0.120", "3"), "openai": ("2.45", "4"), "langchain-core": ("1.6", "2")}
"""Supported from (included) to (not)."""
_SQLITE: Final = (3, 51, 3)
"""Since when several processes may checkpoint one file without corrupting it."""
_NETWORKED: Final = {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs"}
_LOW_DISK: Final = 100 * 2**20
_SETTINGS: Final = {"USER_KEY", "CACHE_DIR"}
"""Variables beside those that are settings too."""


class Finding(NamedTuple):
    """level: "ok", "warn" or "wrong". mend: what to do, empty where nothing is to be done."""

    level: str
    what: str
    mend: str = ""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("doctor", epilog=_EPILOG)(doctor_command)


def doctor_command(
    ledger: LedgerOption = None,
    json: Annotated[bool, typer.Option("--json", help="The findings as one JSON array.")] = False,
) -> None:
    """Check the installation, the settings and the ledger; say what is wrong and how to mend it."""
    found = list(examine(ledger))
    if json:
        import orjson

        output(orjson.dumps([finding._asdict() for finding in found]).decode())
    else:
        for finding in found:
            output(f"{finding.level:6}{safe(finding.what, 200)}")
            if finding.mend:
                output(f"      → {safe(finding.mend, 200)}")
    if any(finding.level == "wrong" for finding in found):
        raise typer.Exit(1)


def examine(ledger: Path | None) -> Iterator[Finding]:
    """Look at everything, in the order in which it is needed."""
    yield from _software()
    yield from _settings()
    from bursar.cli.doctor_prices import look_at_prices, look_at_ranks
    from bursar.pricing.shelf import price_list
    from bursar.settings.config import read_settings
    from bursar.words.errors import ConfigError

    yield from look_at_ranks()
    try:
        settings = read_settings({})
        path = ledger_path(ledger)
        prices = price_list(path, settings)
    except ConfigError as error:
        yield Finding("wrong", str(error), "correct it there")
        return
    yield from look_at_prices(path, prices)
    yield from _place(path)
    if path.exists():
        yield from _contents(path)


def _software() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    import apsw

    yield Finding("ok", f"bursar {version('bursar')} on Python {sys.version.split()[0]}")
    for name, (first, end) in _SDKS.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if _numbers(first) <= _numbers(found) < _numbers(end):
            yield Finding("ok", f"{name} {found}")
        else:
            yield Finding("warn", f"{name} {found} is not a version that bursar is tested with",
                          f"install {name}>={first},<{end}")  # fmt: skip
    sqlite = apsw.sqlite_lib_version()
    if _numbers(sqlite) < _SQLITE:
        yield Finding("wrong", f"SQLite {sqlite} can corrupt a file that several processes checkpoint",
                      "upgrade apsw: pip install -U apsw")  # fmt: skip
    else:
        yield Finding("ok", f"SQLite {sqlite}")


def _settings() -> Iterator[Finding]:
    import difflib

    from bursar.settings.config import setting_names
    from bursar.settings.file import VARIABLE, find_file

    known = {*(f"BURSAR_{name.upper()}" for name in setting_names()), *(f"BURSAR_{name}" for name in _SETTINGS)}
    for variable in sorted(name for name in os.environ if name.startswith("BURSAR_")):
        if variable not in known:
            near = difflib.get_close_matches(variable, known, 1)
            yield Finding("warn", f"{variable} is set, and nothing reads it",
                          f"did you mean {near[0]}?" if near else "unset it")  # fmt: skip
    path = find_file(os.environ)
    if path is None:
        yield Finding("ok", "no bursar.toml: no limits that processes share")
    elif path.is_file():
        yield Finding("ok", f"settings of {path}")
    else:
        yield Finding("wrong", f"{VARIABLE} names {path}, and there is no such file", "correct or unset it")


def _place(path: Path) -> Iterator[Finding]:
    try:
        found = path.lstat()
    except FileNotFoundError:
        yield from _absent(path)
        return
    except OSError as error:
        yield Finding("wrong", f"{path} cannot be reached ({error.strerror})", "make its directory readable")
        return
    if not stat.S_ISREG(found.st_mode):
        yield Finding("wrong", f"{path} is no plain file", "name the file itself with BURSAR_LEDGER")
        return
    if found.st_uid != os.geteuid():
        yield Finding("warn", f"{path} belongs to another user", "run as that user, or name another ledger")
    if stat.S_IMODE(found.st_mode) & 0o077:
        yield Finding("warn", f"{path} can be read by others", f"chmod 600 {path}")
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        yield Finding("wrong", f"{path} or its directory cannot be written", "make both writable")
    kind = _file_system(path)
    if kind in _NETWORKED:
        yield Finding("wrong", f"{path} is on a network file system ({kind}), where locks cannot be trusted",
                      "keep the ledger on a local disk")  # fmt: skip
    disk = os.statvfs(path)
    if disk.f_bavail * disk.f_frsize < _LOW_DISK:
        yield Finding("warn", f"less than {_LOW_DISK >> 20} MB are free where {path} is", "free some space")


def _absent(path: Path) -> Iterator[Finding]:
    place = path.parent
    while not place.exists() and place != place.parent:
        place = place.parent
    if os.access(place, os.W_OK):
        yield Finding("ok", f"no ledger at {path} yet: the first call makes it")
    else:
        yield Finding("wrong", f"no ledger can be made at {path}", f"make {place} writable, or set BURSAR_LEDGER")


def _contents(path: Path) -> Iterator[Finding]:
    import apsw

    from bursar.db import open_ledger
    from bursar.words.errors import LedgerError

    try:
        database = open_ledger(path, read_only=True)
    except LedgerError as error:
        yield Finding("wrong", str(error), "move the file away, or name another with BURSAR_LEDGER")
        return
    try:
        yield from _inside(path, database)
    except apsw.Error as error:
        yield Finding("wrong", f"{path} is damaged ({error})", "restore a backup, or save what can be by .recover")
    finally:
        database.close()
    yield from _beside(path)


def _inside(path: Path, database: Database) -> Iterator[Finding]:
    from bursar.schema import MIGRATIONS

    (checked,) = database.execute("PRAGMA quick_check(1)")
    if checked[0] != "ok":
        yield Finding("wrong", f"{path} is damaged: {checked[0]}", "restore a backup")
        return
    ((version,),) = database.execute("PRAGMA user_version")
    ((calls,),) = database.execute("SELECT count(*) FROM model_call")
    yield Finding("ok", f"{path}: schema {version}, {calls:,} attempts")
    if version < len(MIGRATIONS):
        yield Finding("warn", f"{path} is of an older schema", "the next call brings it up to date, after a backup")
        return
    from bursar.stores import postings

    database.execute("BEGIN")
    drifts = postings.audit(database.execute)
    database.execute("COMMIT")
    for drift in drifts:
        yield Finding("wrong", f"{drift.scope}: {drift.what} is {drift.kept}, and the records make it {drift.derived}",
                      "please report this")  # fmt: skip
    yield from _owners(path, database)


def _owners(path: Path, database: Database) -> Iterator[Finding]:
    from bursar.stores.owners import estate

    owners = database.execute("SELECT owner, count(*) FROM hold GROUP BY owner")
    gone = 0
    for owner, calls in owners:
        with estate(path, owner) as left:
            gone += 0 if left is None else calls
    total = sum(calls for _, calls in owners)
    if gone:
        yield Finding("warn", f"{gone} of {total} calls in flight belong to processes that are gone",
                      "the next call that needs the room settles them")  # fmt: skip
    elif total:
        yield Finding("ok", f"{total} calls in flight, all of processes that live")


def _beside(path: Path) -> Iterator[Finding]:
    from bursar.tracing.spool import spools
    from bursar.tracing.users import read_user_keys
    from bursar.words.errors import BursarError

    for spool in spools(path):
        waiting = [found for found in spool.parent.glob(f"{spool.name}*") if found.is_file()]
        if waiting:
            lines = sum(1 for found in waiting for line in found.read_bytes().splitlines() if line)
            yield Finding("warn", f"{lines} records wait in {waiting[0]}: the ledger could not be written",
                          "the next call takes them back; nothing is lost")  # fmt: skip
    rejected = path.with_name(f"{path.name}.rejected")
    if rejected.exists():
        yield Finding("warn", f"{rejected} keeps lines that could not be read as records",
                      "look at them: calls may be missing from the ledger; then remove the file")  # fmt: skip
    try:
        keys = read_user_keys(path)
        if keys is None:
            yield Finding("ok", "no user key yet: the first call makes it")
        elif len(keys.kept) > 1:
            names = ", ".join(f"k{generation}" for generation, _ in keys.kept)
            yield Finding("ok", f"users are kept under key k{keys.kept[0][0]}, and found under {names}")
    except (BursarError, OSError) as error:
        yield Finding("wrong", str(error), "restore it: without it users cannot be told apart as before")


def _file_system(path: Path) -> str:
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    here = path.resolve()
    best, kind = "", "unknown"
    for line in mounts:
        _, place, name, *_ = line.split()
        if here.is_relative_to(place) and len(place) >= len(best):
            best, kind = place, name
    return kind


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
