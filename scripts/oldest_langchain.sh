#!/usr/bin/env bash
# The tests of LangChain's room on the oldest versions that are supported; further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- tests/callbacks/test_matrix.py tests/callbacks/test_handler.py tests/callbacks/test_agents.py \
  tests/callbacks/test_models.py tests/callbacks/test_agent_loops.py tests/callbacks/test_agent_windows.py
exec uv run --locked --isolated --with 'langchain-core==1.6.0' --with 'langchain==1.4.1' --with 'langgraph==1.2.11' \
  --with 'langchain-anthropic==1.4.0' --with 'langchain-openai==1.3.0' pytest "$@"
