#!/usr/bin/env bash
# Streams of both protocols, cut at every byte, not only where lines end; further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
EVERY_BYTE=1 exec uv run pytest tests/clients/test_wire_cuts.py "$@"
