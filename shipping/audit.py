"""`python -m shipping.audit`: known vulnerabilities of the locked packages, from pip-audit.

Without --strict it reports and exits with 0: a vulnerability published today must not fail an
unrelated change. With --strict (before a release) it exits with 1 when one is known, and with 2
when the service could not be asked. 2 also on wrong usage or a lock that cannot be read.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements/base.txt", "requirements/build.txt", "requirements/dev.txt")
SECONDS_MAX = 60
EXIT_FOUND, EXIT_NOT_ASKED = 1, 2

Ask = Callable[[Path], "tuple[str, str]"]


class Audit(Struct, frozen=True):
    """What is known of one lock: packages asked about, weaknesses, and what could not be asked."""

    lock: str
    asked: int
    found: list[str]
    not_asked: list[str]


def ask_pip_audit(lock: Path) -> tuple[str, str]:
    """What pip-audit says of a lock: JSON, and errors. It resolves and installs nothing."""
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json"]
    command += ["--disable-pip", "--require-hashes", "--timeout", "10", "--requirement", str(lock)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {SECONDS_MAX} s"
    return done.stdout, done.stderr


def audit(lock: Path, ask: Ask = ask_pip_audit) -> Audit:
    """Audit one lock. What pip-audit does not say as JSON means that it could not ask."""
    said, errors = ask(lock)
    try:
        packages: list[dict[str, Any]] = json.loads(said)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = errors.strip().splitlines()[-1] if errors.strip() else "it said nothing"
        return Audit(lock.name, 0, [], [reason])
    found = [
        f"{package['name']} {package['version']}: {weakness['id']}{_mended(weakness)}"
        for package in packages
        for weakness in package.get("vulns", [])
    ]
    skipped = [package["skip_reason"] for package in packages if "skip_reason" in package]
    return Audit(lock.name, len(packages) - len(skipped), found, skipped)


def _mended(weakness: dict[str, Any]) -> str:
    versions = weakness.get("fix_versions") or []
    return f", mended in {', '.join(versions)}" if versions else ", not mended yet"


def lines(one: Audit) -> list[str]:
    """The result as text."""
    said = []
    if one.asked:
        said.append(f"{one.lock}: {len(one.found)} known weaknesses in {one.asked} packages")
    said += [f"  {weakness}" for weakness in one.found]
    if one.not_asked:
        count = f" ({len(one.not_asked)} packages)" if len(one.not_asked) > 1 else ""
        said.append(f"{one.lock}: NOT AUDITED{count}: {one.not_asked[0]}")
    return said


def main(arguments: Sequence[str] | None = None, ask: Ask = ask_pip_audit) -> int:
    """Audit the locks; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m shipping.audit", description=__doc__)
    parser.add_argument("locks", nargs="*", type=Path, default=[ROOT / lock for lock in LOCKS])
    parser.add_argument(
        "--strict", action="store_true", help="fail when one is known or not audited"
    )
    given = parser.parse_args(arguments)
    missing = [str(lock) for lock in given.locks if not lock.is_file()]
    if missing:
        parser.error(f"there is no {', '.join(missing)}")
    results = []
    for lock in given.locks:
        results.append(audit(lock, ask))
        print("\n".join(lines(results[-1])), flush=True)
    found, not_asked = any(one.found for one in results), any(one.not_asked for one in results)
    if not given.strict:
        if found or not_asked:
            print("WARNING: this fails a release (--strict); here it is only reported")
        return 0
    return EXIT_FOUND if found else EXIT_NOT_ASKED if not_asked else 0


if __name__ == "__main__":
    sys.exit(main())
