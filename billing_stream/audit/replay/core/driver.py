"""Decides the merchants on standard input, one a line; the answers on standard output.

Started in the folder of another revision, with that folder first on the path.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec

from .records import Job, Recorded


def main() -> int:
    """Take the job, say whether this revision can do it, and do it to the end."""
    lines = sys.stdin.buffer
    job = msgspec.json.decode(lines.readline(), type=Job)
    try:
        replay = _replayer(job)
    except Exception as error:  # noqa: BLE001 - another revision may fail in any way
        _say({"error": f"{type(error).__name__}: {error}"})
        return 2
    _say({"error": None})
    for line in lines:
        try:
            answer: Any = replay(msgspec.json.decode(line, type=Recorded))
        except Exception as error:  # noqa: BLE001 - as above
            _say({"error": f"{type(error).__name__}: {error}"})
            return 2
        _say(answer)
    return 0


def _replayer(job: Job) -> Any:
    # Imported only now: another revision may lack any of it.
    import billing_stream

    from .replayer import replayer

    found = Path(billing_stream.__file__).resolve().parents[1]
    if found != Path(job.root).resolve():
        raise RuntimeError(f"the code is not that of the revision, but of {found}")
    return replayer(job)


def _say(what: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
