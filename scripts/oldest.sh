#!/usr/bin/env bash
# The clients' tests on the oldest versions of the SDKs that pyproject.toml allows; further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- tests/clients/test_{entry_points,endings,cloud_endings,clouds,frames,streams,growth,wrap,surface}.py \
  tests/clients/test_{attacks,holes,usage_doubts,stated,compaction,variants}.py
echo "on anthropic 0.120.0 and openai 2.45.0:" "$@"
exec uv run --locked --isolated --with 'anthropic==0.120.0' --with 'openai==2.45.0' pytest "$@"
