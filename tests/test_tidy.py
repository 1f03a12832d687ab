"""What review would otherwise have to look for."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from billing_stream import __version__
from billing_stream.config.settings_reference import markdown
from tests.support.parsed import parsed

ROOT = Path(__file__).parent.parent
PACKAGES = ("billing_stream", "agents", "tables", "web")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
LINES_MAX = 400
FUNCTION_LINES_MAX = 70


def trees(files: list[Path] = FILES) -> Iterator[tuple[Path, ast.Module]]:
    for path in files:
        yield path, parsed(path)


def test_files_and_functions_are_small() -> None:
    large = []
    for path, tree in trees():
        if len(path.read_text().splitlines()) > LINES_MAX:
            large.append(str(path))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    large.append(f"{path}: {node.name} has {length} lines")
    assert large == []


def test_every_public_name_has_a_docstring() -> None:
    missing, implemented = [], []
    documented = set()
    for path, tree in trees():
        if not ast.get_docstring(tree):
            missing.append(str(path))
        for node in tree.body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if not node.name.startswith("_") and not ast.get_docstring(node):
                missing.append(f"{path}: {node.name}")
            for one in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                    if ast.get_docstring(one):
                        documented.add(one.name)
                    elif not one.name.startswith("_"):
                        implemented.append((f"{path}: {node.name}.{one.name}", one.name))
    # What a protocol or base class says of a method is not said again.
    missing += [where for where, name in implemented if name not in documented]
    assert missing == []


def test_no_rule_is_an_assert() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert found == [], "asserts vanish under python -O"


def test_no_exception_is_swallowed() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException"))
        and all(isinstance(statement, ast.Pass) for statement in node.body)
    ]
    assert found == []


def test_the_domain_has_no_clock_no_randomness_and_no_floats() -> None:
    banned = re.compile(r"\.(now|utcnow|today|time|monotonic)\(\)|uuid4|random|\bfloat\b")
    found = [
        f"{path}: {line.strip()}"
        for path in (ROOT / "billing_stream" / "domain").glob("*.py")
        for line in path.read_text().splitlines()
        if banned.search(line.split("#")[0]) and '"""' not in line
    ]
    assert found == []


def test_imports_of_our_packages_find_our_packages() -> None:
    package, *linked = PACKAGES
    for name, folder in {package: package, **{f"{package}.{one}": one for one in linked}}.items():
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        assert Path(spec.origin).resolve().parent == ROOT / folder


def test_wheel_has_one_package_at_the_top() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [PACKAGES[0]]
    assert project["tool"]["hatch"]["version"] == {"path": "billing_stream/__init__.py"}


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    # What is on its way to the next one may stand before it.
    assert next(one for one in versions if one != "Unreleased") == __version__


def test_the_settings_page_is_made_from_the_settings() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == markdown()


def test_every_link_in_the_documents_leads_somewhere() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page}: {target}")
    assert broken == []


def test_no_dependency_names_a_registry() -> None:
    locks = [*(ROOT / "requirements").glob("*.txt")]
    locks += (ROOT / "billing_stream" / "dev" / "locks").glob("*.txt")
    locks += (ROOT / "tests" / "clients").glob("*/*.txt")
    assert len(locks) == 10
    for lock in locks:
        text = lock.read_text()
        assert "--index-url" not in text
        assert "https:" not in text
        assert "--hash=sha256:" in text
    packages = json.loads((ROOT / "tests" / "clients" / "node" / "package-lock.json").read_text())
    for name, package in packages["packages"].items():
        assert "resolved" not in package
        assert not name or package["integrity"].startswith("sha512-")


@pytest.mark.parametrize(
    "command", ["--help", "worker --help", "topics --help", "dev --help", "verify --help"]
)
def test_help_is_there(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "billing_stream.cli", *command.split(), "--help"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "Usage:" in done.stdout


# What turns text of others into code, objects or commands.
DANGEROUS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen"),
    *("pickle.load", "pickle.loads", "marshal.loads", "shelve.open", "yaml.load"),
    *("yaml.unsafe_load", "xml.etree.ElementTree.parse", "ET.parse"),
}


def test_nothing_that_is_read_becomes_code_or_a_command() -> None:
    found = []
    for path in sorted((ROOT / "billing_stream").rglob("*.py")):
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.Call):
                continue
            shell = any(
                word.arg == "shell" and ast.unparse(word.value) != "False" for word in node.keywords
            )
            if ast.unparse(node.func) in DANGEROUS or shell:
                found.append(f"{path}:{node.lineno}: {ast.unparse(node.func)}")
    assert found == []
