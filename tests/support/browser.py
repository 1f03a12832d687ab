"""A real Chromium: Debian's package, found or installed once; and what is looked for in a page."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, ViewportSize, async_playwright

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
PHONE: ViewportSize = {"width": 390, "height": 844}
DESK: ViewportSize = {"width": 1280, "height": 900}
NAMES = ("chromium", "chromium-browser", "google-chrome")
PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
APT_GET = "/usr/bin/apt-get"
SERIOUS = ("serious", "critical")


def chromium() -> str:
    """The browser's path; where it is missing and can be installed (root on Debian), it is.

    Raises RuntimeError, which says what to install.
    """
    found = _find()
    if found is None and os.geteuid() == 0 and Path(APT_GET).exists():
        # Test runs at the same time must not install at the same time.
        with (Path(tempfile.gettempdir()) / "billing-stream-apt.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = _find() or _install()
    if found is None:
        raise RuntimeError(
            "the dashboard's tests need Chromium: apt-get install --no-install-recommends chromium"
        )
    return found


def _find() -> str | None:
    where = f"{os.environ.get('PATH', '')}:{PLACES}"
    return next((path for name in NAMES if (path := shutil.which(name, path=where))), None)


def _install() -> str | None:
    env = {**os.environ, "PATH": PLACES, "DEBIAN_FRONTEND": "noninteractive"}
    install = [APT_GET, "install", "--yes", "--no-install-recommends", "chromium"]
    for command in ([APT_GET, "update"], install):
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        if done.returncode:
            said = (done.stdout + done.stderr)[-1000:]
            raise RuntimeError(f"{' '.join(command)} did not work:\n{said}")
    return _find()


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A headless one."""
    async with async_playwright() as playwright:
        # As root there is no sandbox; it opens nothing but pages of our own.
        started = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        try:
            yield started
        finally:
            await started.close()


async def screenshot(page: Page, name: str) -> None:
    """Keep what the page looks like, all of it."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


async def sideways(page: Page) -> int:
    """By how many pixels the page is wider than the window."""
    root = "document.documentElement"
    return int(await page.evaluate(f"{root}.scrollWidth - {root}.clientWidth"))


async def findings(page: Page, *rules: str) -> list[str]:
    """What axe-core finds to be serious or critical: each rule, and where it is broken.

    Of all its rules, unless some are named.
    """
    only: dict[str, Any] = {"runOnly": list(rules)} if rules else {}
    options = {"resultTypes": ["violations"], **only}
    found: dict[str, Any] = (await Axe().run(page, options=options)).response
    return [
        f"{page.url}: {one['id']}: {one['help']}: {node['html'][:200]}"
        for one in found["violations"]
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]
