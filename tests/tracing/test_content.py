"""Kept content: bounded, for a while, and gone when it is deleted."""

from __future__ import annotations

import random
import string
import time
from typing import TYPE_CHECKING, Any

import apsw
import pytest

import bursar
from bursar import BursarWarning, ConfigError, ledger_file
from bursar.runs.process import process
from bursar.schema import MIGRATIONS
from bursar.tracing.content import MOST_BYTES, Contents, Part, expire, read_contents
from bursar.tracing.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORDS = [Part("user", "hello")]


@pytest.fixture
def writer(ledger: Path) -> Iterator[Ledger]:
    writer = Ledger(ledger)
    yield writer
    writer.close()


def age(writer: Ledger) -> None:
    """Let everything that is kept be due."""
    writer.database().execute("UPDATE content SET until_us = ?", (time.time_ns() // 1_000 - 1,))


def rows(writer: Ledger) -> int:
    return int(writer.database().execute("SELECT count(*) FROM content")[0][0])


def noise(length: int) -> str:
    return "".join(random.Random(7).choices(string.ascii_letters + string.digits + " ", k=length))


@pytest.mark.parametrize(
    "parts",
    [
        [Part("user", noise(3_000_000))],
        [Part("user", noise(20_000)) for _ in range(60)],
        [Part("user", noise(900)) for _ in range(2_000)],
        [Part("user", "x" * 10**8)],
    ],
    ids=["one long", "many long", "very many", "100 MB"],
)
def test_what_is_kept_of_a_call_is_bounded(ledger: Path, writer: Ledger, parts: list[Part]) -> None:
    """At most 256 KiB in the file; what was cut says how much is missing, and the end of a conversation is there."""
    Contents(writer, "full", 60).keep("a/0", parts, [Part("assistant", "fine")])
    ((size,),) = writer.database().execute("SELECT length(data) FROM content")
    assert size <= MOST_BYTES
    content = read_contents(ledger, ["a/0"])["a/0"]
    assert content.said == (Part("assistant", "fine"),)
    assert content.asked
    assert len(content.asked) == len(parts) or len(content.asked) == 100
    assert content.asked[-1].text[:500] == parts[-1].text[:500]
    assert ("more characters]" in content.asked[0].text) == (content.asked[0].text != parts[0].text)


def test_hostile_text_is_kept_as_it_is(ledger: Path, writer: Ledger) -> None:
    """Control characters, turned text and newlines stay; only what no file can hold is replaced."""
    text = 'a\n{"fake":1}\n\x1b[2J\u202e\u2066\u200b\U000e0041\u2028'
    contents = Contents(writer, "full", 60)
    contents.keep("a/0", [Part("user", text)], [Part("\ud800", "x\ud800y")])
    content = read_contents(ledger, ["a/0"])["a/0"]
    assert content.asked == (Part("user", text),)
    assert content.said == (Part("?", "x?y"),)


def test_what_is_due_is_neither_shown_nor_left(ledger: Path, writer: Ledger) -> None:
    """After `keep_content` it is hidden at once, deleted at the next start and by who keeps something later."""
    contents = Contents(writer, "full", 60)
    contents.keep("a/0", WORDS, [])
    contents.keep("b/0", WORDS, [])
    assert set(read_contents(ledger, ["a/0", "b/0", "c/0"])) == {"a/0", "b/0"}
    age(writer)
    assert read_contents(ledger, ["a/0", "b/0"]) == {}
    assert rows(writer) == 2
    process()
    assert rows(writer) == 0
    contents.keep("c/0", WORDS, [])
    age(writer)
    contents._next_sweep = 0.0
    contents.keep("d/0", WORDS, [])
    assert set(read_contents(ledger, ["c/0", "d/0"])) == {"d/0"}
    assert rows(writer) == 1


def test_many_that_are_due_are_all_deleted(writer: Ledger) -> None:
    """In several steps."""
    contents = Contents(writer, "full", 60)
    for n in range(1_101):
        contents.keep(f"{n}/0", WORDS, [])
    age(writer)
    expire(writer)
    assert rows(writer) == 0


def test_content_that_cannot_be_kept_warns_once(tmp_path: Path) -> None:
    """No ledger can be opened: the caller goes on."""
    (tmp_path / "dir.db").mkdir()
    contents = Contents(Ledger(tmp_path / "dir.db"), "full", 60)
    with pytest.warns(BursarWarning, match="content could not be kept") as told:
        contents.keep("a/0", WORDS, [])
        contents.keep("b/0", WORDS, [])
    assert len(told) == 1


@pytest.mark.parametrize(
    "setting",
    [{"content": "yes"}, {"content": True}, {"keep_content": "14"}, {"keep_content": "0d"}, {"keep_content": 14},
     {"keep_content": "١d"}, {"keep_content": "-1d"}],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_named(setting: dict[str, Any]) -> None:
    """With the name and the value."""
    (name,) = setting
    with pytest.raises(ConfigError, match=f"{name}="):
        bursar.configure(**setting)


def test_a_damaged_row_is_passed_over(ledger: Path, writer: Ledger) -> None:
    """What cannot be unpacked is not shown, and its neighbour is."""
    contents = Contents(writer, "full", 60)
    contents.keep("a/0", WORDS, [])
    contents.keep("b/0", WORDS, [])
    writer.database().execute("UPDATE content SET data = x'00' WHERE call_id = 'a/0'")
    assert set(read_contents(ledger, ["a/0", "b/0"])) == {"b/0"}


def test_a_ledger_from_before_content_is_read_and_taken_along(ledger: Path) -> None:
    """Read-only it has none; the next writer adds the table and keeps the rows."""
    made = apsw.Connection(str(ledger))
    made.execute(MIGRATIONS[0])
    made.execute(f"PRAGMA application_id={ledger_file.APPLICATION_ID}; PRAGMA user_version=1")
    made.execute("INSERT INTO calibration VALUES ('k', 'v', 1)")
    made.close()
    assert read_contents(ledger, ["a/0"]) == {}
    writer = Ledger(ledger)
    Contents(writer, "full", 60).keep("a/0", WORDS, [])
    assert set(read_contents(ledger, ["a/0"])) == {"a/0"}
    assert writer.load_calibration() == {"k": b"v"}
    writer.close()
