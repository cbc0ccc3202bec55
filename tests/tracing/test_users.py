"""Users in the ledger: hashes under a key that is the owner's, and never the users themselves."""

from __future__ import annotations

import hashlib
import hmac
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bursar import ConfigError, LedgerError
from bursar.tracing.ledger import Ledger
from bursar.tracing.users import KEY_BYTES, VARIABLE, hash_user, load_user_key
from bursar.words.records import RunRecord, Tags, Who

if TYPE_CHECKING:
    from pathlib import Path

MAKE = """
import sys
from pathlib import Path
from bursar.tracing.users import load_user_key
sys.stdin.readline()
print(load_user_key(Path(sys.argv[1])).hex())
"""


def test_a_hash_is_an_hmac_cut_to_128_bits() -> None:
    """Another program with the key makes the same one."""
    key = b"k" * KEY_BYTES
    full = hmac.new(key, b"ada", hashlib.sha256).hexdigest()
    assert hash_user("ada", key) == "k1:" + full[:32]


@pytest.mark.parametrize("user", ["", "\ud800", "a\0b", "x" * 10_000, "é"])
def test_any_text_has_a_hash_of_its_own(user: str) -> None:
    """Whatever the text, the hash is as long as any other and differs from its neighbour's."""
    found = hash_user(user, b"k" * 32)
    assert len(found) == 35
    assert found != hash_user(user + "x", b"k" * 32)


def test_a_key_is_made_once(ledger: Path) -> None:
    """32 bytes for the owner only; the same at every start; no draft is left lying about."""
    key = load_user_key(ledger)
    path = ledger.with_name("user.key")
    assert (len(key), path.read_bytes()) == (KEY_BYTES, key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_user_key(ledger) == key
    assert list(ledger.parent.iterdir()) == [path]


def test_processes_that_race_for_a_key_get_the_same(ledger: Path) -> None:
    """Two at once, ten times: one key, which is the one in the file."""
    for number in range(10):
        place = ledger.parent / f"{number}" / "ledger.db"
        place.parent.mkdir()
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", MAKE, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        keys = {racer.communicate(timeout=20)[0].strip() for racer in racers}
        assert keys == {(place.parent / "user.key").read_bytes().hex()}


def test_the_environment_names_the_key(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then no file is made for it."""
    monkeypatch.setenv(VARIABLE, "0123456789abcdef")
    assert load_user_key(ledger) == b"0123456789abcdef"
    assert not ledger.with_name("user.key").exists()


@pytest.mark.parametrize("short", ["", "hunter2", "fifteen-bytes-x"])
def test_a_short_key_is_refused_unseen(ledger: Path, monkeypatch: pytest.MonkeyPatch, short: str) -> None:
    """Less than 16 bytes: the message says how to make one and does not say what was given."""
    monkeypatch.setenv(VARIABLE, short)
    with pytest.raises(ConfigError, match="openssl rand -hex 32") as refused:
        load_user_key(ledger)
    assert not short or short not in str(refused.value)


def test_a_key_that_cannot_be_used_is_named(ledger: Path) -> None:
    """A directory in its place, a file cut short: errors that name the file, and the file stays."""
    path = ledger.with_name("user.key")
    path.mkdir()
    with pytest.raises(LedgerError, match=r"user\.key cannot be used"):
        load_user_key(ledger)
    path.rmdir()
    path.write_bytes(b"half")
    with pytest.raises(LedgerError, match="cut short"):
        load_user_key(ledger)
    assert path.read_bytes() == b"half"


def test_a_user_is_in_no_file(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in ledger, log or spool, with a key or without one."""
    user = "someone@example.org"

    def record(run_id: str) -> RunRecord:
        return RunRecord(run_id, None, Who(Tags("w"), user), 1)

    writer = Ledger(ledger)
    for number in range(50):
        writer.write(record(f"R{number}"))
    with pytest.warns(UserWarning, match="records go to"):
        writer._keep_aside(record("S"), None, "a test")
    monkeypatch.setenv(VARIABLE, "short")
    blocked = Ledger(ledger.parent / "blocked" / "ledger.db")
    with pytest.warns(UserWarning, match="shorter than 16"):
        blocked.write(record("B"))
    files = [path for path in ledger.parent.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"ledger.db", "ledger.db-wal", "ledger.db.spool", "user.key"}
    for path in files:
        assert user.encode() not in path.read_bytes()
    writer.close()
