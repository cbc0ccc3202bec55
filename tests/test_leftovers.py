"""What a process that died has left on the way: whatever it is, the ledger opens, and no row is lost without a word."""

from __future__ import annotations

import random
import resource
from typing import TYPE_CHECKING

import apsw
import orjson
import pytest

from bursar.intake import COLUMNS
from bursar.leftovers import intakes
from bursar.tracing.ledger import Ledger
from tests.test_intake import in_table, left_by_the_dead, numbered
from tests.tracing.test_ledger import call, count

if TYPE_CHECKING:
    from pathlib import Path


def rejected(ledger: Path) -> list[bytes]:
    path = ledger.with_name(f"{ledger.name}.rejected")
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def test_what_is_no_row_is_set_aside(ledger: Path) -> None:
    """The rows around it are taken, the file goes, and a person can look at what was no row."""
    left_by_the_dead(ledger, 3)
    (left,) = intakes(ledger)
    whole = left.read_bytes()
    odd = [b"[1,2]\n", whole.splitlines()[0].replace(b",0,", b",{},", 1) + b"\n", b'["torn']
    left.write_bytes(odd[0] + whole + odd[1] + odd[2])
    assert count(ledger) == 3
    assert rejected(ledger) == odd
    assert intakes(ledger) == []


def test_a_bit_that_has_turned_stops_nobody(ledger: Path) -> None:
    """Whatever one bit makes of a line, the ledger opens: the row is there, or it is set aside."""
    left_by_the_dead(ledger, 2)
    (left,) = intakes(ledger)
    whole, dice = left.read_bytes(), random.Random(7)
    for bit in dice.sample(range(8 * len(whole)), 150):
        turned = bytearray(whole)
        turned[bit // 8] ^= 1 << bit % 8
        left.write_bytes(turned)
        before, aside = in_table(ledger), len(rejected(ledger))
        Ledger(ledger).database().close()
        assert not left.exists()
        assert len(rejected(ledger)) > aside or in_table(ledger) >= before
    assert count(ledger) >= 2


def test_rows_for_a_later_state_of_a_ledger_that_was_restored_are_set_aside(ledger: Path) -> None:
    """A copy of before knows nothing of tags that were numbered since: nobody else's are put in their place."""
    Ledger(ledger).database().close()
    source, copy = apsw.Connection(str(ledger)), apsw.Connection(":memory:")
    with copy.backup("main", source, "main") as backup:
        backup.step()
    source.close()
    left_by_the_dead(ledger, 3)
    for path in (ledger, *ledger.parent.glob("ledger.db-*")):
        path.unlink()
    restored = apsw.Connection(str(ledger))
    with restored.backup("main", copy, "main") as backup:
        backup.step()
    restored.close()
    assert count(ledger) == 0
    assert len(rejected(ledger)) == 2
    assert intakes(ledger) == []


def test_what_cannot_be_set_aside_stays_where_it_is(ledger: Path) -> None:
    """Nothing is deleted before it is safe elsewhere, and the ledger opens all the same."""
    left_by_the_dead(ledger, 3)
    (left,) = intakes(ledger)
    left.write_bytes(left.read_bytes() + b"odd\n")
    ledger.with_name("ledger.db.rejected").mkdir()
    assert count(ledger) == 3
    assert intakes(ledger) == [left]


@pytest.mark.parametrize("part", [0.0, 0.5, 2.0])
def test_a_line_that_does_not_fit_on_the_disk_spoils_no_other(ledger: Path, part: float) -> None:
    """The file may grow by a part of a line: the row goes another way, and the next line begins where it should."""
    writer, _ = numbered(ledger)
    writer.write(call())
    (left,) = (path for path in intakes(ledger) if path.stat().st_size)
    size, intake, row = left.stat().st_size, writer._intake, writer._inserts.row(call())
    assert intake is not None
    assert row is not None
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * (1 + part)), most[1]))
    try:
        kept = intake.add(row, call())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert kept == (part > 1)
    assert intake.add(row, call())
    lines = left.read_bytes().splitlines(keepends=True)
    assert [len(orjson.loads(line)) for line in lines] == [len(COLUMNS)] * (2 + kept)
    writer.close()
