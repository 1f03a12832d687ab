"""Which shop a merchant has: the old service's tables do not say."""

import csv
from collections.abc import Iterator
from pathlib import Path

from billing_stream.domain.shop_names import shop_names
from billing_stream.migration.mapping import Shop
from billing_stream.migration.migration_errors import ImportFailed
from billing_stream.migration.values import uuid_of

HEADER = ("merchant_id", "platform", "domain")


def read_shops(path: Path) -> dict[str, Shop]:
    """A CSV file with the header `merchant_id,platform,domain`. Raises ImportFailed."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        missing = [name for name in HEADER if name not in (rows.fieldnames or ())]
        if missing:
            raise ImportFailed(
                f"{path}: the first line must be {','.join(HEADER)}; missing: {', '.join(missing)}"
            )
        return dict(_shops(path, rows))


def _shops(path: Path, rows: "csv.DictReader[str]") -> Iterator[tuple[str, Shop]]:
    for row in rows:
        merchant = uuid_of(row["merchant_id"])
        where = f"{path}, line {rows.line_num}"
        if merchant is None:
            raise ImportFailed(f"{where}: merchant_id is not a UUID")
        try:
            yield merchant, shop_names(row["platform"] or "", row["domain"] or "")
        except ValueError as error:
            raise ImportFailed(f"{where}: {error}") from None
