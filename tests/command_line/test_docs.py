"""`billing-stream docs` shows what messages point at, wherever it is installed."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from billing_stream.cli import cli
from billing_stream.console.docs_cli import pages

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for package in ("billing_stream", "agents", "tables", "web")
    for path in (ROOT / package).rglob("*.py")
]


def test_a_page_is_shown_as_it_is() -> None:
    done = CliRunner().invoke(cli, ["docs", "restore"])
    assert done.exit_code == 0
    assert done.stdout.strip() == (ROOT / "docs/restore.md").read_text().strip()


def test_all_pages_are_listed_with_their_titles() -> None:
    lines = CliRunner().invoke(cli, ["docs"]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == sorted(p.stem for p in ROOT.glob("docs/*.md"))
    assert any(re.fullmatch(r"exit-codes +Exit codes", line) for line in lines)


@pytest.mark.parametrize("name", ["docs/restore.md", "restore.md"])
def test_a_page_is_found_by_its_file_too(name: str) -> None:
    assert CliRunner().invoke(cli, ["docs", name]).exit_code == 0


def test_an_unknown_page_is_refused_with_the_one_that_was_meant() -> None:
    done = CliRunner().invoke(cli, ["docs", "restor"])
    assert done.exit_code == 2
    assert "there is no page restor: restore?" in done.stderr


def test_every_page_that_a_message_names_is_there() -> None:
    named = {
        name
        for source in SOURCES
        for name in re.findall(r"`billing-stream docs ([a-z-]+)`", source.read_text())
    }
    assert len(named) > 5
    assert named <= set(pages())
