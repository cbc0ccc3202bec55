"""`python -m bursar.testing`: a provider in the foreground."""

import argparse
import threading
from collections.abc import Sequence

from bursar.testing.provider import Provider


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the two base URLs and serves until it is interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m bursar.testing",
        description="Speaks the Anthropic and OpenAI protocols on loopback. No model answers.",
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds to the first byte (default: 0.05)")
    options = parser.parse_args(arguments)
    with Provider(latency_s=options.latency, port=options.port) as provider:
        print(f"ANTHROPIC_BASE_URL={provider.anthropic_url}", flush=True)
        print(f"OPENAI_BASE_URL={provider.openai_url}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(f"billed ${provider.billed_nusd / 1e9:.6f} for {len(provider.charges)} answers")


if __name__ == "__main__":
    main()
