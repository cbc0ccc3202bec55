#!/usr/bin/env bash
# The clients' tests on the oldest versions of the SDKs that pyproject.toml allows; further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- tests/clients/test_entry_points.py tests/clients/test_endings.py tests/clients/test_streams.py \
  tests/clients/test_growth.py tests/clients/test_wrap.py tests/clients/test_surface.py tests/clients/test_holes.py \
  tests/clients/test_usage_doubts.py tests/clients/test_variants.py
exec uv run --locked --isolated --with 'anthropic==0.120.0' --with 'openai==2.45.0' pytest "$@"
