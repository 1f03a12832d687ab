"""The verifier shares nothing with what it judges, and writes nowhere."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import billing_stream.verify
from tests.support.parsed import parsed

FOLDER = Path(billing_stream.verify.__file__).parent
ALLOWED = {
    "billing_stream.topics",
    "billing_stream.errors",
    # Only for the command line, to know where the brokers are.
    "billing_stream.settings",
    "billing_stream.kafka_options",
    "billing_stream.kafka_trouble",
    # The text of its --help, the types of its options, and its bar.
    "billing_stream.manual",
    "billing_stream.options",
    "billing_stream.progress",
}
OURS = ("billing_stream", "agents", "tables", "web")


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            module = node.module or ""
            if module == "billing_stream":
                found |= {f"billing_stream.{alias.name}" for alias in node.names}
            else:
                found.add(module)
    return {name for name in found if name.split(".")[0] in OURS}


def test_only_names_and_settings_are_imported() -> None:
    for path in FOLDER.glob("*.py"):
        others = {n for n in imported(path) if not n.startswith("billing_stream.verify")}
        assert others <= ALLOWED, path
        if path.name != "cli.py":
            assert others <= {"billing_stream.topics", "billing_stream.errors"}, path


def test_the_model_loads_nothing_of_the_domain() -> None:
    """Also not by way of something else."""
    code = (
        "import sys, billing_stream.verify.verifier\n"
        "bad = ('domain', 'engine', 'schemas', 'processor', 'settings')\n"
        "bad = [f'billing_stream.{name}' for name in bad] + ['agents', 'tables', 'web', 'faust']\n"
        "print([n for n in sys.modules if any((n + '.').startswith(b + '.') for b in bad)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_nothing_is_ever_written() -> None:
    writes = re.compile(
        r"Producer|Admin|\.send|commit\(|group_id|create_topics|INSERT|UPDATE|DELETE|execute\("
    )
    found = [
        f"{path.name}: {line.strip()}"
        for path in FOLDER.glob("*.py")
        for line in path.read_text().splitlines()
        if writes.search(line.split("#")[0])
    ]
    assert [line for line in found if "PURCHASE_UPDATED" not in line] == []
