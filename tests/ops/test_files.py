"""What the pages are made of is in the wheel, and is what it says."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from billing_stream.web.ops.files import FILES

ROOT = Path(__file__).parents[2]
OPS = ROOT / "web" / "ops"


def test_the_wheel_has_every_template_and_every_file(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")

    held = set(zipfile.ZipFile(wheel).namelist())

    wanted = {path for folder in ("templates", "static") for path in (OPS / folder).iterdir()}
    assert {f"billing_stream/{path.relative_to(ROOT)}" for path in wanted} <= held
    assert {name for name in FILES if not (OPS / "static" / name).is_file()} == set()


def test_htmx_is_as_it_was_published_and_has_its_licence() -> None:
    licence = (OPS / "static" / "htmx.LICENSE.txt").read_text()

    assert hashlib.sha256((OPS / "static" / "htmx.min.js").read_bytes()).hexdigest() in licence
    assert "Zero-Clause BSD" in licence
    assert f"htmx {_version()}," in licence


def _version() -> str:
    text = (OPS / "static" / "htmx.min.js").read_text()
    return text.partition('version:"')[2].partition('"')[0]


def test_no_page_fetches_anything_from_elsewhere() -> None:
    for path in (OPS / "templates").iterdir():
        assert "//" not in path.read_text().replace("http://www.w3.org/2000/svg", ""), path
