"""`python -m liveness_etl.local --port 0 --config '{"limit_tps": 50}'`: prints its URL when it is ready."""

import argparse
import json

from liveness_etl.local.config import LocalConfig, changes_from_json
from liveness_etl.local.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m liveness_etl.local", description="A local stand-in for Rekognition Face Liveness."
    )
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--config", default="{}", help="settings as one JSON object")
    arguments = parser.parse_args()
    try:
        config = LocalConfig(**changes_from_json(json.loads(arguments.config)))
        serve(config, arguments.host, arguments.port, on_ready=lambda url: print(url, flush=True))
    except json.JSONDecodeError:
        parser.error("--config must be one JSON object")
    except (ValueError, OverflowError) as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"cannot listen on port {arguments.port}: {error.strerror or error}")


if __name__ == "__main__":
    main()
