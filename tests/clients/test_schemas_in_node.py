"""A strict validator of another language takes the published schemas as they are."""

from pathlib import Path

import pytest

from tests.clients.tools import ROOT, run_node

SCHEMAS = ROOT / "docs" / "api" / "schemas"


def test_every_published_schema_compiles_in_ajv_with_strict_mode() -> None:
    compiled = run_node("strict.mjs", SCHEMAS).split()

    assert sorted(compiled) == sorted(path.name for path in SCHEMAS.glob("*.json"))


def test_ajv_refuses_a_schema_with_a_word_that_is_not_json_schema(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('{"type": "object", "discriminator": {}}')

    with pytest.raises(AssertionError, match="unknown keyword"):
        run_node("strict.mjs", tmp_path)
