"""The file of shops of an import: names in any form, and the line of one that is none."""

from pathlib import Path

import pytest

from billing_stream.migration.migration_errors import ImportFailed
from billing_stream.migration.old_shops import read_shops

M1 = "11111111-1111-4111-8111-111111111111"


def file_with(folder: Path, line: str) -> Path:
    path = folder / "shops.csv"
    path.write_text(f"merchant_id,platform,domain\n{line}\n", encoding="utf-8")
    return path


def test_shop_of_a_file_has_its_one_name(tmp_path: Path) -> None:
    path = file_with(tmp_path, f"{M1.upper()}, Shopify ,https://Müller.example/admin")

    assert read_shops(path) == {M1: ("shopify", "xn--mller-kva.example")}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("5,shopify,a.example", "line 2: merchant_id is not a UUID"),
        (f"{M1},Shopify Plus,a.example", "line 2: platform 'Shopify Plus': a platform is"),
        (f"{M1},shopify,me@a.example", "line 2: domain 'me@a.example': it has an @"),
        (f"{M1},shopify", "line 2: domain '': it is empty"),
    ],
)
def test_line_without_a_shop_is_named_with_the_rule(tmp_path: Path, line: str, why: str) -> None:
    with pytest.raises(ImportFailed, match=why):
        read_shops(file_with(tmp_path, line))
