"""The HTTP library that the SDKs at hand are built on: httpx2, or httpx under the oldest supported ones."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

NEW = int(version("openai").partition(".")[0]) >= 3
HTTP: Any = import_module("httpx2" if NEW else "httpx")
