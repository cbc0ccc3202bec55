"""What may go wrong with a ledger, by what is done about it. apsw is loaded only by whoever writes."""

from __future__ import annotations

from bursar.words.errors import ConfigError, LedgerError


def busy() -> tuple[type[Exception], ...]:
    """Another process writes just now: it is tried again, or left for later."""
    import apsw

    return (apsw.BusyError,)


def apsw_error() -> type[Exception]:
    """What SQLite says of a file."""
    import apsw

    return apsw.Error


def unfit() -> tuple[type[Exception], ...]:
    """What was kept aside is no record, or only part of one: it is set apart for a person."""
    import apsw

    return (apsw.ConstraintError, TypeError, ValueError, KeyError, OverflowError, AttributeError)


def failures() -> tuple[type[Exception], ...]:
    """All that may go wrong where a record is written."""
    import apsw

    # The last three are of values that neither SQLite nor JSON can hold; the spool holds them made to fit.
    return (apsw.Error, LedgerError, ConfigError, OSError, TypeError, ValueError, OverflowError)
