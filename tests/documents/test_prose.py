"""The check of words in `make lint`: what it reads, when it fails, and what it prints."""

import json
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import yaml

from shipping.prose import COUNTS, checks, main

ROOT = Path(__file__).parents[2]
CLEAN = {
    "README.md": "# A project\n\nEvents are published.\n",
    "mkdocs.yml": "nav:\n  - How to:\n      - deploy.md\n",
    "docs/deploy.md": "# Deploy a worker\n",
}


def prose(*arguments: str | Path) -> tuple[int, str]:
    """Run the check: exit code and output."""
    with redirect_stdout(StringIO()) as output:
        code = main([str(argument) for argument in arguments])
    return code, output.getvalue()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project without a hit, and nothing allowed."""
    for name, text in CLEAN.items():
        write(tmp_path, name, text)
    write(tmp_path, COUNTS, "{}\n")
    assert prose("--root", tmp_path) == (0, "")
    return tmp_path


def write(project: Path, name: str, text: str) -> None:
    """Write a file of the project."""
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


CODE = '''"""A module."""

class Error(Exception):
    """An error."""

def run(name: str) -> None:
    """Run it."""
    raise Error(
        f"the worker {name} goes "
        "on"
    )
'''
ALERT = """groups:
  - rules:
      - alert: Late
        annotations:
          summary: '{{ $labels.told }} is late'
          description: Nothing was decided.
            It was told.
          runbook_url: https://example.org/runbooks#late
"""


@pytest.mark.parametrize(
    ("name", "text", "group", "place"),
    [
        ("README.md", "# A project\n\nEvents are\ntold.\n", "documents", 'README.md:4: "told"'),
        ("docs/a/b.md", "It goes\n  on.\n", "documents", 'docs/a/b.md:1: "goes on"'),
        ("CHANGELOG.md", "## Unreleased\n\n- Mended.\n", "documents", ':3: "Mended"'),
        ("docs/c.md", "## Why not?\n", "question headings", 'c.md:1: "Why not?"'),
        ("docs/deploy.md", "## Drain\n", "one-word headings", 'deploy.md:1: "Drain"'),
        ("docs/d.md", "| a | |\n|---|---|\n| b | c |\n", "empty header cells", "d.md:1:"),
        ("web/ops/templates/a.html", "<b title='told'>\nOurs", "templates", 'a.html:2: "Ours"'),
        ("deploy/prometheus/alerts.yml", ALERT, "alerts", 'alerts.yml:7: "told"'),
        (
            "deploy/prometheus/alerts.yml",
            "  runbook_url: docs/a.md\n",
            "runbook addresses",
            'alerts.yml:1: "docs/a.md"',
        ),
        ("deploy/grafana/a.json", '{"title": "The beside"}', "alerts", 'a.json:1: "beside"'),
        ("billing_stream/a.py", CODE, "strings", 'a.py:9: "goes on"'),
        ("web/a.py", '"""A module.\n\n  Whose is it.\n"""\n', "docstrings", 'a.py:3: "Whose"'),
        ("tests/test_a.py", f"async def test_{'a' * 66}() -> None: ...\n", "test names", "a.py:1:"),
    ],
)
def test_a_new_hit_fails_and_its_place_is_named(
    project: Path, name: str, text: str, group: str, place: str
) -> None:
    write(project, name, text)

    code, output = prose("--root", project)

    assert code == 1
    assert f"{group}: 1 found, 0 allowed" in output
    assert place in output
    assert output.count("; use: ") == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("README.md", 'The field `told` and\n\n```json\n{"told": 1}\n```\n'),
        ("README.md", "[The page](docs/told.md) <!-- told -->\n"),
        ("README.md", "There is no shop. It is no longer known.\n"),
        ("README.md", "The merchant said no. <!-- prose: ok -->\n"),
        ("CHANGELOG.md", "## Unreleased\n\n- New.\n\n## 0.1.0 - 2026-11-24\n\n- Mended.\n"),
        ("docs/settings.md", "Records of ours.\n"),
        (
            "docs/deploy.md",
            "## Drain a worker\n\n## BillingLate\n\n| a | b |\n|---|---|\n| c | |\n",
        ),
        ("web/ops/templates/a.html", "<b class='told'>{{ told }} {% if told %}</b>"),
        ("billing_stream/a.py", 'KEY = "told"\nQUERY = "SELECT told FROM a"\n# told\n'),
        ("billing_stream/a.py", 'raise ValueError("so it was told")  # prose: ok\n'),
        ("billing_stream/a.py", 'NAME = "no_one_told_it or retold"\n'),
        ("tests/test_a.py", f"def test_{'a' * 65}() -> None: ...\n"),
    ],
)
def test_names_code_and_excepted_lines_are_left_out(project: Path, name: str, text: str) -> None:
    write(project, name, text)

    assert prose("--root", project) == (0, "")


def test_only_the_new_one_of_several_hits_is_shown(project: Path) -> None:
    write(project, "README.md", "Whose it is.\n\nIt was told.\n")
    (project / COUNTS).unlink()
    assert prose("--root", project, "--write") == (0, "")
    assert prose("--root", project) == (0, "")
    write(project, "README.md", "Whose it is.\n\nIt was told.\n\nIt goes on.\n")

    code, output = prose("--root", project)

    assert code == 1
    assert "documents: 3 found, 2 allowed" in output
    assert 'README.md:5: "goes on"; use: continue\n' in output
    assert output.count("; use: ") == 1


def test_fewer_hits_pass_and_the_counts_can_be_lowered(project: Path) -> None:
    write(project, COUNTS, json.dumps({"documents": {"README.md": "told; whose"}}))
    write(project, "README.md", "It was told.\n")

    code, output = prose("--root", project)

    assert code == 0
    assert "documents 2 -> 1" in output
    assert "--write" in output
    assert prose("--root", project, "--write") == (0, "")
    assert json.loads((project / COUNTS).read_text()) == {"documents": {"README.md": "told"}}
    assert prose("--root", project) == (0, "")


def test_text_moved_to_another_file_is_not_a_new_hit(project: Path) -> None:
    write(project, COUNTS, json.dumps({"documents": {"README.md": "told"}}))
    write(project, "docs/a.md", "It was told.\n")

    assert prose("--root", project) == (0, "")


def test_counts_are_never_raised(project: Path) -> None:
    write(project, "README.md", "It was told.\n")

    code, output = prose("--root", project, "--write")

    assert code == 1
    assert 'README.md:1: "told"' in output
    assert json.loads((project / COUNTS).read_text()) == {}


def test_every_kind_of_file_of_this_project_is_read() -> None:
    names = [path.relative_to(ROOT).as_posix() for path, _ in checks(ROOT)]

    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "docs/decisions/README.md",
        "web/ops/templates/base.html",
        "deploy/prometheus/alerts.yml",
        "deploy/grafana/dashboards/billing.json",
        "billing_stream/config/settings.py",
        "web/ops/ops_views.py",
        "tables/rows.py",
        "agents/inputs.py",
        "tests/test_tidy.py",
    ):
        assert names.count(name) == 1, name
    # For its words, and as a how-to page for its headings.
    assert names.count("docs/deploy.md") == 2


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (f"{'a' * 72}\n\n{'b' * 90}\n", 0),
        (f"# {'a' * 90}\n\nAdd a check\n", 0),
        (f"Merge branch '{'a' * 90}'\n", 0),
        (f"{'a' * 73}\n", 1),
    ],
)
def test_a_long_commit_subject_is_rejected(tmp_path: Path, message: str, code: int) -> None:
    (tmp_path / "message").write_text(message)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    (hook,) = (hook for hook in hooks if hook.get("stages") == ["commit-msg"])
    module, *options = hook["entry"].removeprefix(".venv/bin/python -m ").split()

    done = subprocess.run(
        [sys.executable, "-m", module, *options, tmp_path / "message"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert done.returncode == code
    assert ("73 characters" in done.stdout) == bool(code)
