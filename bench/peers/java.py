"""Compiles Kafka Streams's part with Maven into the cache, once for each state of its sources."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from bench.setting import say
from billing_stream.dev.cache import DevError, cache_dir, cached
from billing_stream.dev.provision import check_jars, run_command

SOURCES = Path(__file__).parent / "kstreams"
JARS = SOURCES / "jars.sha256"
JAVA_MIN = 17
MAVEN = ("mvn", "-q", "-B", "compiler:compile", "dependency:copy-dependencies")


class Unavailable(Exception):
    """The peer cannot be run here; the text is the reason that reports state."""


def class_path() -> str:
    """Where `build` puts the classes and jars."""
    folder = cache_dir() / _name()
    return f"{folder / 'classes'}:{folder / 'lib'}/*"


def build() -> None:
    """Compile where that has not been done. Raises Unavailable where it cannot be."""
    _require_jdk()
    if shutil.which("mvn") is None:
        raise Unavailable("Maven (`mvn`) is not installed")
    try:
        cached(_name(), "compiling for Kafka Streams (115 MB of downloads, once)", _compile)
    except DevError as error:
        # Not for a report: it names hosts and folders.
        say(str(error))
        raise Unavailable("Maven could not download the jars or compile: see stderr") from error


def _name() -> str:
    digest = hashlib.sha256()
    for path in (SOURCES / "pom.xml", JARS, *sorted(SOURCES.rglob("*.java"))):
        digest.update(path.read_bytes())
    return f"bench-kstreams-{digest.hexdigest()[:12]}"


def _require_jdk() -> None:
    try:
        done = subprocess.run(["javac", "-version"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Unavailable(f"a JDK of Java {JAVA_MIN} or later is not installed") from None
    # Java 8 and older write 1.8 to stderr.
    found = re.search(r"javac (\d+)", done.stdout + done.stderr)
    if found is None or int(found[1]) < JAVA_MIN:
        version = (done.stdout + done.stderr).strip() or "of unknown version"
        raise Unavailable(f"the JDK is {version}, and Java {JAVA_MIN} is needed")


def _compile(folder: Path) -> None:
    run_command([*MAVEN, f"-Doutput={folder}", "-f", str(SOURCES / "pom.xml")])
    fetched, lib = folder / "fetched", folder / "lib"
    lib.mkdir()
    check_jars(fetched, lib, JARS)
    fetched.rmdir()
