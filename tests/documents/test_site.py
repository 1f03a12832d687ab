"""The site is built strictly: a link, an anchor or a page that leads nowhere fails it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.browser import DESK, browser

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]
LOADED = re.compile(r'<(?:script|link|img)\b[^>]*\b(?:src|href)="(https?:[^"]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [Path(sys.executable).parent / "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_it_has_every_command_and_every_route(site: Path) -> None:
    commands = (site / "commands.html").read_text()
    for command in ("worker", "dlq redrive", "import shadow", "projector rebuild", "dev up"):
        assert f"Usage: billing-stream {command}" in commands
    api = (site / "http-api.html").read_text()
    for route in ("/api/billing/trials", "/api/billing/purchases", "/internal/adjustments"):
        assert route in api


def test_who_reads_it_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert LOADED.findall(page.read_text()) == [], page


async def test_search_finds_a_page_in_a_site_opened_as_files(site: Path) -> None:
    requested: list[str] = []
    async with browser() as opened:
        page = await opened.new_page(viewport=DESK)
        page.on("request", lambda request: requested.append(request.url))
        await page.goto((site / "index.html").as_uri())
        await page.get_by_role("textbox", name="Search").fill("murmur2")
        hits = page.locator(".md-search-result__link")
        await hits.first.wait_for(state="attached", timeout=20_000)
        found = await hits.evaluate_all("all => all.map(one => one.href)")

    assert any("/scale.html" in address for address in found), found
    assert {url for url in requested if not url.startswith("file:")} == set()


def test_what_is_outside_of_the_site_is_text(site: Path) -> None:
    assert 'href="../deploy/' not in (site / "runbooks.html").read_text()
