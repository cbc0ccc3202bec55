"""The application with all its commands."""

from __future__ import annotations

from bursar.cli.commands import application

app = application()
