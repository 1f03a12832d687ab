"""A short run of `make chaos BROKERS=3`: each broker is restarted while merchants buy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.clusters, pytest.mark.timeout(1200)]


def test_rolling_restart_of_three_brokers_ends_no_worker(
    tmp_path: Path,
) -> None:
    found = tmp_path / "found.json"
    command = [sys.executable, "-m", "chaos", "run", "--brokers", "3", "--only", "rolling"]
    command += ["--minutes", "0.05", "--seed", "1", "--session-ms", "6000"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path), "--json", str(found)],
        capture_output=True,
        text=True,
        timeout=1100,
    )
    assert found.exists(), done.stdout + done.stderr
    report = json.loads(found.read_text())

    assert [fault["kind"] for fault in report["faults"]] == ["rolling"]
    assert report["problems"] == report["missed"] == [], done.stdout
    assert report["verified"].endswith("no fault")
    assert report["checked"]["purchases"] > 0
    assert report["bought"]["201"] > 0
