"""`python -m billing_stream.observability.probe ready`: the health check of a container.

It asks the internal listener, which clients cannot fill. The image has no curl. Ends with 0 when
the answer is 200, 1 when it is not or none comes.
"""

import argparse
import os
import sys
from http.client import HTTPConnection, HTTPException

EVERYWHERE = ("", "0.0.0.0", "::")


def _set(*names: str) -> str:
    """The first of these variables that has a value. The settings themselves take long to load."""
    values = (os.environ.get(f"BILLING_{name}") for name in names)
    return next(filter(None, values), "")


def main(arguments: list[str] | None = None) -> int:
    """Ask /health or /ready; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m billing_stream.observability.probe", description=__doc__
    )
    parser.add_argument("path", choices=["health", "ready"])
    parser.add_argument(
        "--port", type=int, default=int(_set("INTERNAL_PORT", "API_EXTERNAL_PORT") or 8000)
    )
    parser.add_argument("--timeout", type=float, default=4.0, metavar="SECONDS")
    given = parser.parse_args(arguments)
    bind = _set("INTERNAL_BIND", "API_BIND")
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
