"""The stored logs of every release, and the shape of the rows that this program writes.

`make samples` writes those of the program of now, once its shape is meant to be kept.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import msgspec

from billing_stream.domain.model import Adjustment, Merchant, Purchase
from billing_stream.domain.outcomes import ErrorCode, StoredResponse
from billing_stream.records import topics as names
from billing_stream.records.upcasting.versions import HEADER, VERSION
from tests.upgrades.scenario import Record, play, read, text

FOLDER = Path(__file__).parent / "samples"
CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
UNRELEASED = "unreleased"
ROWS = {
    names.BILLING_RECORDS: Merchant,
    names.CREDIT_PURCHASES: Purchase,
    names.CREDIT_ADJUSTMENTS: Adjustment,
    names.IDEMPOTENCY_KEYS: StoredResponse,
}
# Newer than the state version. Their refusals are not stored: no older worker reads one in a row.
NEVER_IN_A_ROW = frozenset({ErrorCode.TOO_MANY_OPEN_PURCHASES, ErrorCode.MERCHANT_UNINSTALLED})


def released() -> list[str]:
    """All versions in the changelog, the latest first."""
    return re.findall(r"^## (\d\S*)", CHANGELOG.read_text(), flags=re.M)


def present_name() -> str:
    """Under which name the sample of this program is kept."""
    return UNRELEASED if "\n## Unreleased" in CHANGELOG.read_text() else released()[0]


def stored(version: str) -> list[Record]:
    """The whole log that this version made of the scenario."""
    return [read(line) for line in (FOLDER / f"{version}.jsonl").read_text().splitlines()]


def state_of(version: str) -> set[int]:
    """The state versions that the changelog records of a sample carry."""
    rows = [record for record in stored(version) if record.topic.endswith("-changelog")]
    return {int(dict(record.headers).get(HEADER) or b"1") for record in rows}


def shape() -> dict[str, Any]:
    """What a row of each table may hold: names, types and defaults, and no prose."""
    _, known = msgspec.json.schema_components(ROWS.values())
    found = {name: _bare(schema) for name, schema in sorted(known.items())}
    as_kept: dict[str, Any] = json.loads(json.dumps(found))
    codes = as_kept["ErrorCode"]["enum"]
    as_kept["ErrorCode"]["enum"] = [code for code in codes if code not in NEVER_IN_A_ROW]
    return as_kept


def shape_file(version: int) -> Path:
    """Where the shape of a state version is kept."""
    return FOLDER / f"shape-of-state-{version}.json"


def _bare(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {k: _bare(v) for k, v in schema.items() if k not in ("description", "title")}
    return [_bare(one) for one in schema] if isinstance(schema, list) else schema


def keep() -> None:
    """Write sample and shape of this program; never over those of a release."""
    name, kept = present_name(), shape_file(VERSION)
    older = [one for one in released() if one != name and VERSION in state_of(one)]
    if kept.exists() and older and json.loads(kept.read_text()) != shape():
        sys.exit(
            f"{older[0]} wrote state {VERSION}: raise VERSION, add a step, see docs/upgrade.md"
        )
    (FOLDER / f"{name}.jsonl").write_text("".join(text(record) + "\n" for record in play()))
    kept.write_text(json.dumps(shape(), indent=1) + "\n")
    if name != UNRELEASED:
        (FOLDER / f"{UNRELEASED}.jsonl").unlink(missing_ok=True)
    print(f"kept {name}, of state version {VERSION}")


if __name__ == "__main__":
    keep()
