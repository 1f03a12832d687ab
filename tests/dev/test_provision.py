"""What is fetched is checked, kept whole or not at all, and made once."""

import hashlib
import threading
from pathlib import Path

import pytest

from billing_stream.dev import provision
from billing_stream.dev.cache import DevError, cache_dir, cached


@pytest.fixture
def jars(tmp_path: Path) -> Path:
    """A folder with one jar, and a list that has its hash."""
    fetched = tmp_path / "fetched" / "deep"
    fetched.mkdir(parents=True)
    (fetched / "good.jar").write_bytes(b"good")
    known = f"{hashlib.sha256(b'good').hexdigest()}  good.jar\n"
    (tmp_path / "jars.sha256").write_text(known)
    (tmp_path / "target").mkdir()
    return tmp_path


def test_a_jar_with_its_hash_is_taken(jars: Path) -> None:
    provision.check_jars(jars / "fetched", jars / "target", jars / "jars.sha256")

    assert (jars / "target" / "good.jar").read_bytes() == b"good"


def test_an_altered_jar_is_refused_by_name(jars: Path) -> None:
    (jars / "fetched" / "deep" / "good.jar").write_bytes(b"evil")

    with pytest.raises(DevError, match=r"good\.jar is not the file we know: sha256"):
        provision.check_jars(jars / "fetched", jars / "target", jars / "jars.sha256")
    assert not (jars / "target" / "good.jar").exists()


def test_a_jar_that_is_missing_is_refused_by_name(jars: Path) -> None:
    (jars / "fetched" / "deep" / "good.jar").unlink()

    with pytest.raises(DevError, match=r"good\.jar was not fetched"):
        provision.check_jars(jars / "fetched", jars / "target", jars / "jars.sha256")


def test_every_jar_of_the_list_is_a_hash_and_a_name() -> None:
    lines = (provision.LOCKS / "kafka-jars.sha256").read_text().splitlines()

    assert len(lines) == 45
    assert all(len(line.split()[0]) == 64 and line.endswith(".jar") for line in lines)


def test_a_failed_entry_leaves_nothing_and_is_made_again(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise DevError("no network")

    with pytest.raises(DevError, match="no network"):
        cached("thing", "fetching a thing", fail, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]

    made = cached("thing", "fetching a thing", lambda f: (f / "whole").touch(), tmp_path)
    assert [path.name for path in made.iterdir()] == ["whole"]


def test_an_entry_wanted_by_many_at_once_is_made_once(tmp_path: Path) -> None:
    made: list[Path] = []
    threads = [
        threading.Thread(target=cached, args=("thing", "a thing", made.append, tmp_path))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 1
    assert (tmp_path / "thing").is_dir()


def test_a_cache_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DevError, match="cannot be written"):
        cached("thing", "a thing", lambda _: None, tmp_path / "file")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BILLING_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "billing-stream"

    monkeypatch.setenv("BILLING_CACHE_DIR", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"
