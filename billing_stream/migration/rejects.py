"""The file of rejected rows: JSON, one a line."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from billing_stream.migration.findings import REJECTS, Rejected


@contextmanager
def writing(path: Path | None) -> Iterator[Rejected | None]:
    """Takes rejected rows to the file, if there is one; it is written anew."""
    if path is None:
        yield None
        return
    with path.open("w", encoding="utf-8") as file:

        def write(table: str, reason: str, row: Mapping[str, Any]) -> None:
            columns = {name: value for name, value in row.items() if name != "key"}
            line = {"table": table, "reason": reason, "why": REJECTS[reason], "row": columns}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

        yield write
