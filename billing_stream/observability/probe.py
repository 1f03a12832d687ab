"""`python -m billing_stream.observability.probe ready`: the health check of a container.

The image has no curl. Ends with 0 when the answer is 200, 1 when it is not or none comes.
"""

import argparse
import os
import sys
from http.client import HTTPConnection, HTTPException

EVERYWHERE = ("", "0.0.0.0", "::")


def main(arguments: list[str] | None = None) -> int:
    """Ask /health or /ready; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m billing_stream.observability.probe", description=__doc__
    )
    parser.add_argument("path", choices=["health", "ready"])
    parser.add_argument(
        "--port", type=int, default=int(os.environ.get("BILLING_API_EXTERNAL_PORT") or 8000)
    )
    parser.add_argument("--timeout", type=float, default=4.0, metavar="SECONDS")
    given = parser.parse_args(arguments)
    bind = os.environ.get("BILLING_API_BIND", "")
    connection = HTTPConnection(
        "127.0.0.1" if bind in EVERYWHERE else bind, given.port, timeout=given.timeout
    )
    try:
        connection.request("GET", f"/{given.path}")
        return 0 if connection.getresponse().status == 200 else 1
    except (OSError, HTTPException) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
