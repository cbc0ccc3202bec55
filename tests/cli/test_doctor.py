"""`bursar doctor`: what is wrong is named with what mends it, and nothing is changed by looking."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
from typer.testing import CliRunner

from bursar.cli.app import app
from bursar.pricing.data import FOLDER, OLD_DAYS, PACKAGED_ON, keep
from bursar.schema import MIGRATIONS
from bursar.stores.sqlite import SqliteStore
from bursar.tracing.ledger import Ledger
from bursar.words.clock import SystemClock
from bursar.words.events import Amounts
from bursar.words.ports import Scope

LIST = [
    {"id": name, "name": name, "api_pattern": name, "models": [
        {"id": model, "match": {"equals": model}, "prices": {"input_mtok": 2.5, "output_mtok": 10}},
    ]}
    for name, model in (("anthropic", "claude-sonnet-5-5"), ("openai", "gpt-4o"))
]  # fmt: skip
"""Prices as they are published, of two models."""
DAY = Scope("env", "production", "day:2026-11-24")


def doctor(code: int = 0) -> list[dict[str, str]]:
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == code, done.output
    found: list[dict[str, str]] = json.loads(done.output)
    return found


def of(level: str, found: list[dict[str, str]]) -> str:
    return "\n".join(f"{each['what']} -> {each['mend']}" for each in found if each["level"] == level)


def test_a_sound_installation_is_said_to_be_sound(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ledger yet is fine; with one, its schema and size are shown."""
    monkeypatch.setattr(SystemClock, "today", lambda _: PACKAGED_ON)
    found = doctor()
    assert of("warn", found) == of("wrong", found) == ""
    assert "the first call makes it" in of("ok", found)
    assert not ledger.exists()
    writer = Ledger(ledger)
    writer.database()
    writer.close()
    ledger.parent.chmod(0o700)
    found = doctor()
    assert of("warn", found) == of("wrong", found) == ""
    assert f"schema {len(MIGRATIONS)}, 0 attempts" in of("ok", found)
    lines = CliRunner().invoke(app, ["doctor"]).output.splitlines()
    assert all(line.startswith(("ok    ", "warn  ", "wrong ", "      →")) for line in lines)


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"no database" * 100, "no SQLite file"), (b"", "is empty")],
    ids=["text", "empty"],
)
def test_a_file_that_is_no_ledger(ledger: Path, content: bytes, what: str) -> None:
    """It is named, and left as it is."""
    ledger.write_bytes(content)
    assert what in of("wrong", doctor(1))
    assert ledger.read_bytes() == content


def test_links_and_open_doors(ledger: Path, tmp_path: Path) -> None:
    """A link is wrong; a file that others can read is warned of."""
    writer = Ledger(tmp_path / "real.db")
    writer.database()
    writer.close()
    ledger.symlink_to(tmp_path / "real.db")
    assert "no plain file" in of("wrong", doctor(1))
    ledger.unlink()
    (tmp_path / "real.db").rename(ledger)
    ledger.chmod(0o644)
    assert "chmod 600" in of("warn", doctor())


def test_a_newer_and_an_older_file(ledger: Path) -> None:
    """The newer asks for an upgrade, the older is brought up to date by the next call."""
    connection = apsw.Connection(str(ledger))
    connection.execute(MIGRATIONS[0])
    connection.execute(f"PRAGMA application_id={0x62757273}; PRAGMA user_version=1; PRAGMA journal_mode=WAL")
    connection.close()
    ledger.chmod(0o600)
    assert "older schema" in of("warn", doctor())
    connection = apsw.Connection(str(ledger))
    connection.execute("PRAGMA user_version=99")
    connection.close()
    assert "newer version" in of("wrong", doctor(1))


def test_damaged_pages(ledger: Path) -> None:
    """Pages that were overwritten are found."""
    store = SqliteStore.at(ledger)
    store.define(DAY, {"usd": 10**9})
    for number in range(500):
        store.settle(f"{number}/0", (DAY,), Amounts(nusd=1), measured=True)
    store.close()
    store._database().close()
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:-8_192] + b"\xff" * 8_192)
    assert "damaged" in of("wrong", doctor(1))


def test_books_that_do_not_follow_from_the_records(ledger: Path) -> None:
    """A balance that was changed by hand is found, with both figures."""
    store = SqliteStore.at(ledger)
    store.define(DAY, {"usd": 10**9})
    store.settle("a/0", (DAY,), Amounts(nusd=7), measured=True)
    store.write(lambda run: run("UPDATE account SET settled_nusd = 3"))
    store.close()
    found = of("wrong", doctor(1))
    assert "nusd=3" in found
    assert "nusd=7" in found


def test_the_dead_and_the_spool(ledger: Path) -> None:
    """Holds of dead processes and records that wait are warned of; looking settles and takes nothing."""
    store = SqliteStore.at(ledger)
    store.define(DAY, {"usd": 10**9})
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom bursar.stores.sqlite import SqliteStore\n"
        f"from bursar.words.events import Amounts\nfrom bursar.words.ports import Scope\nstore = SqliteStore.at(Path(sys.argv[1]))\n"
        f"store.reserve('dead/0', ({DAY!r},), Amounts(nusd=4))\nos.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(ledger)], check=False)
    ledger.with_name("ledger.db.spool").write_bytes(b'\n{"kind":"x"}\n')
    ledger.with_name("ledger.db.rejected").write_bytes(b"torn")
    found = of("warn", doctor())
    assert "ledger.db.rejected keeps lines" in found
    assert "1 of 1 calls in flight belong to processes that are gone" in found
    assert "1 records wait" in found
    assert store.balance(DAY).holds == 1
    assert ledger.with_name("ledger.db.spool").exists()
    store.close()


def test_settings_that_nothing_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A misspelt variable is named with what was meant; a file that is not there, or wrong, is an error."""
    monkeypatch.setenv("BURSAR_LEDGR", "x")
    assert "BURSAR_LEDGR is set, and nothing reads it -> did you mean BURSAR_LEDGER?" in of("warn", doctor())
    monkeypatch.setenv("BURSAR_CONFIG", str(tmp_path / "none.toml"))
    assert "no such file" in of("wrong", doctor(1))
    (tmp_path / "bursar.toml").write_text("[bursar]\nmode = 3\n")
    monkeypatch.setenv("BURSAR_CONFIG", str(tmp_path / "bursar.toml"))
    assert "bursar.toml:2" in of("wrong", doctor(1))


def test_a_key_that_is_cut_short(ledger: Path, monkeypatch: Any) -> None:
    """Without its key users cannot be told apart: that is wrong, and the key is not shown."""
    writer = Ledger(ledger)
    writer.database()
    writer.close()
    (ledger.parent / "user.key").write_bytes(b"short")
    assert "cut short" in of("wrong", doctor(1))


def test_the_age_of_prices(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said; a list that has grown old is warned of, with what to do next, and so is one that was renamed."""
    day = PACKAGED_ON
    monkeypatch.setattr(SystemClock, "today", lambda _: day)
    day += timedelta(days=OLD_DAYS)
    assert f", {OLD_DAYS} days old" in of("ok", doctor())
    day += timedelta(days=1)
    assert f", {OLD_DAYS + 1} days old: models may be missing, and prices may have moved -> fetch newer ones with bursar" in of("warn", doctor())  # fmt: skip
    copy = keep(ledger.parent, LIST, "here", datetime.combine(day, time(8), UTC))
    assert f"data {copy.path.stem}" in of("ok", doctor())
    assert ", 0 days old" in of("ok", doctor())
    copy.path.rename(copy.path.with_name(f"mine-{copy.path.name[-13:]}"))
    assert "of a day that nobody knows" in of("warn", doctor())


def test_prices_that_an_upgrade_has_overtaken(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that was fetched before those of this version were published still holds: it is named, and the way back."""
    monkeypatch.setattr(SystemClock, "today", lambda _: PACKAGED_ON)
    keep(ledger.parent, LIST, "here", datetime.combine(PACKAGED_ON - timedelta(days=2), time(8), UTC))
    assert f"those that came with bursar are of {PACKAGED_ON} -> bursar prices update --undo" in of("warn", doctor())
    assert of("wrong", doctor()) == ""


def test_prices_that_are_too_old_or_damaged(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where calls are refused for it, it is wrong; so is a copy that cannot be read."""
    monkeypatch.setattr(SystemClock, "today", lambda _: PACKAGED_ON + timedelta(days=8))
    monkeypatch.setenv("BURSAR_MAX_PRICE_AGE", "1w")
    assert "8 days old: more than max_price_age allows" in of("wrong", doctor(1))
    monkeypatch.setenv("BURSAR_MAX_PRICE_AGE", "2w")
    assert of("wrong", doctor()) == ""
    (ledger.parent / FOLDER).mkdir()
    (ledger.parent / FOLDER / "2026-11-11T080000Z-00000000.json").write_text("[]")
    assert "is damaged" in of("wrong", doctor(1))


def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ledger can be made there, and it says so."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("BURSAR_LEDGER", str(tmp_path / "file" / "ledger.db"))
    assert of("wrong", doctor(1))
