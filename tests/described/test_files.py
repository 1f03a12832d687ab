"""What stands in `docs/api` is what the code says."""

from pathlib import Path

from click.testing import CliRunner

from billing_stream.cli import cli
from billing_stream.ops.describe import FOLDER, documents, encoded, write

ROOT = Path(__file__).parents[2]
REMEDY = "run `billing-stream describe`, and delete what it does not write"


def test_the_files_in_the_repository_are_of_this_code() -> None:
    folder = ROOT / FOLDER
    wanted = {name: encoded(document) for name, document in documents().items()}
    found = {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in folder.rglob("*.json")
    }

    stale = {name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)}
    assert stale == set(), f"{FOLDER} is stale: {REMEDY}"


def test_the_command_writes_every_document(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["describe", "--to", str(tmp_path / "new" / "folder")])

    assert done.exit_code == 0, done.output
    written = {path.relative_to(tmp_path / "new" / "folder") for path in tmp_path.rglob("*.json")}
    assert written == {Path(name) for name in documents()}
    assert write(tmp_path / "new" / "folder")[0].read_text() == encoded(documents()["openapi.json"])
