"""`python -m shipping.sbom`: the bill of materials of the image, CycloneDX 1.6 in JSON.

Made from requirements/base.txt, which is what the image installs, with its hashes. The same lock
gives the same bytes.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from billing_stream import __version__

ROOT = Path(__file__).parent.parent
FILE = Path("dist/billing-stream.cdx.json")


def sbom(lock: Path, to: Path) -> None:
    """Write the bill of a lock. Raises CalledProcessError when cyclonedx-py refuses it."""
    to.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", str(lock)]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "application"]
    command += ["--spec-version", "1.6", "--output-format", "JSON", "--output-reproducible"]
    subprocess.run([*command, "--output-file", str(to)], check=True)
    bill = json.loads(to.read_text())
    # pyproject.toml says only where the version is.
    bill["metadata"]["component"]["version"] = __version__
    to.write_text(json.dumps(bill, indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write it."""
    parser = argparse.ArgumentParser(prog="python -m shipping.sbom", description=__doc__)
    parser.add_argument("--to", type=Path, default=FILE, help=f"the file ({FILE})")
    given = parser.parse_args(arguments)
    sbom(ROOT / "requirements" / "base.txt", given.to)
    print(f"wrote {given.to}")


if __name__ == "__main__":
    main()
