"""The bill of materials lists what the image installs, no more and no less."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from billing_stream import __version__
from shipping.sbom import ROOT, sbom

pytestmark = pytest.mark.full

LOCK = ROOT / "requirements" / "base.txt"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sbom") / "bill.json"
    sbom(LOCK, file)
    return file


@pytest.fixture(scope="module")
def bill(written: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(written.read_text())
    return found


def test_it_lists_every_locked_package_in_its_version(bill: dict[str, Any]) -> None:
    locked = dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", LOCK.read_text(), re.MULTILINE))
    assert len(locked) > 40
    assert {one["name"]: one["version"] for one in bill["components"]} == locked


def test_it_has_the_hashes_of_the_lock(bill: dict[str, Any]) -> None:
    for one in bill["components"]:
        hashes = [
            digest["content"]
            for reference in one["externalReferences"]
            for digest in reference.get("hashes", [])
        ]
        assert hashes, one["name"]
        assert all(f"sha256:{digest}" in LOCK.read_text() for digest in hashes)


def test_it_names_what_it_is_of(bill: dict[str, Any]) -> None:
    subject = bill["metadata"]["component"]
    assert (subject["name"], subject["version"]) == ("billing-stream", __version__)


def test_it_is_valid_cyclonedx(written: Path) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written.read_text()) is None


def test_the_same_lock_gives_the_same_bytes(written: Path, tmp_path: Path) -> None:
    sbom(LOCK, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == written.read_bytes()
