"""The glossary names what is there, and a reader finds the glossary."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "glossary.md").read_text()
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \|([^|\n]*)\|$", PAGE, re.M)
PACKAGES = ("billing_stream", "agents", "tables", "web")


def test_every_name_in_code_is_in_the_code() -> None:
    code = "\n".join(
        path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py")
    )
    # Commands are checked with those of the other documents, event topics are derived.
    names = {
        name
        for *_, column in ROWS
        for name in re.findall(r"`([^`]+)`", column)
        if not name.startswith(("billing-stream ", "evt.billing."))
    }

    assert len(names) > 40
    assert {name for name in names if not re.search(rf"\b{re.escape(name)}\b", code)} == set()


def test_every_term_is_defined_once() -> None:
    terms = [term for cell, *_ in ROWS for term in cell.split(", ") if cell != "Term"]

    assert len(terms) > 40
    assert len(terms) == len(set(terms))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/index.md", "mkdocs.yml"])
def test_the_glossary_is_linked(page: str) -> None:
    assert "glossary.md" in (ROOT / page).read_text()
