"""The verifier shares nothing with what it judges, and writes nowhere."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import billing_stream.audit.verify
from tests.support.parsed import parsed

FOLDER = Path(billing_stream.audit.verify.__file__).parent
ALLOWED = {
    # What the journal says of the order; whether that is right is for the verifier to judge.
    "billing_stream.audit.written_order",
    "billing_stream.records.topics",
    "billing_stream.records.record_ref",
    "billing_stream.errors",
    # The reader of all topics: it says which records it could not read.
    "billing_stream.kafka.committed_log",
    "billing_stream.kafka.consumers",
    # What it says while it waits for a transaction of somebody else.
    "billing_stream.kafka.open_transactions",
    # What Kafka says of a log; whether that is right is for the verifier to judge.
    "billing_stream.kafka.topic_logs",
    # Only for the command line, to know where the brokers are.
    "billing_stream.config.settings",
    "billing_stream.config.background_settings",
    "billing_stream.kafka.client_options",
    "billing_stream.kafka.answering_broker",
    # The text of its --help, the types of its options, and its bar.
    "billing_stream.console.help",
    "billing_stream.console.options",
    "billing_stream.console.output",
    "billing_stream.console.progress",
    # The table of its report.
    "billing_stream.console.tables",
}
PACKAGES = ("billing_stream", "billing_stream.records")


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            module = node.module or ""
            if module in PACKAGES:
                found |= {f"{module}.{alias.name}" for alias in node.names}
            else:
                found.add(module)
    return {name for name in found if name.split(".")[0] == "billing_stream"}


def test_only_names_and_settings_are_imported() -> None:
    for path in FOLDER.glob("*.py"):
        others = {n for n in imported(path) if not n.startswith("billing_stream.audit.verify")}
        assert others <= ALLOWED, path
        if path.name != "verify_cli.py":
            names = (
                "audit.written_order",
                "records.topics",
                "records.record_ref",
                "errors",
                "kafka.committed_log",
                "kafka.consumers",
                "kafka.open_transactions",
                "kafka.topic_logs",
                "console.tables",
            )
            assert others <= {f"billing_stream.{name}" for name in names}, path


def test_the_model_loads_nothing_of_the_domain() -> None:
    """Also not by way of something else."""
    code = (
        "import sys, billing_stream.audit.verify.verifier\n"
        "bad = ('domain', 'engine', 'records.schemas', 'processor', 'config.settings')\n"
        "bad += ('agents', 'tables', 'web', 'faust_adapter')\n"
        "bad = [f'billing_stream.{name}' for name in bad] + ['faust']\n"
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
