"""Which blocks were sent already. It only saves time: the same command twice changes nothing.

A block is known by the digest of its records, so one that has changed is repeated.
"""

import hashlib
import json
from pathlib import Path

from billing_stream.migration.sending import Block, Ends


class Checkpoint:
    """A file of one line per acknowledged block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._done = dict(_read(path))

    @classmethod
    def of(cls, folder: Path, *about: str) -> "Checkpoint":
        """The one for this source and this target, which `about` names."""
        name = hashlib.blake2b("\0".join(about).encode(), digest_size=8).hexdigest()
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder / f"import-{name}.jsonl")

    def __len__(self) -> int:
        return len(self._done)

    def ends(self, block: Block) -> Ends | None:
        """Where the block's records ended in Kafka, or None when it is still to be sent."""
        digest, ends = self._done.get(block.name, ("", {}))
        return ends if digest == block.digest else None

    def add(self, block: Block, ends: Ends) -> None:
        """The block was acknowledged."""
        line = json.dumps({"block": block.name, "digest": block.digest, "ends": ends})
        with self.path.open("a") as file:
            file.write(f"{line}\n")

    def clear(self) -> None:
        """Begin again."""
        self.path.unlink(missing_ok=True)
        self._done = {}


def _read(path: Path) -> list[tuple[str, tuple[str, Ends]]]:
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            said = json.loads(line)
            ends = {int(partition): int(end) for partition, end in said["ends"].items()}
            found.append((said["block"], (said["digest"], ends)))
        except (ValueError, KeyError, TypeError, AttributeError):
            # The last line of a process that was killed in the middle of it.
            continue
    return found
