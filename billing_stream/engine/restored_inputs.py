"""The inputs of a partition, as the changelog has them."""

from billing_stream.engine.log import ACCEPTED_PREFIX, POSITION_PREFIX, STOPPED_PREFIX
from billing_stream.engine.partition_inputs import StoppedInput, decode_stopped


class RestoredInputs:
    """Takes the engine's own rows, in their order. The keys of all three are names of inputs."""

    def __init__(self) -> None:
        self.positions: dict[str, int] = {}
        self.stopped: dict[str, StoppedInput] = {}
        self.accepted: set[str] = set()

    def take(self, key: bytes, value: bytes | None) -> None:
        """Take a row; one of another kind changes nothing."""
        if key.startswith(POSITION_PREFIX):
            self.positions[key[len(POSITION_PREFIX) :].decode()] = int(value or 0)
        elif key.startswith(STOPPED_PREFIX):
            name = key[len(STOPPED_PREFIX) :].decode()
            self.stopped.pop(name, None)
            if value is not None:
                self.stopped[name] = decode_stopped(value)
        elif key.startswith(ACCEPTED_PREFIX):
            self.accepted.add(key[len(ACCEPTED_PREFIX) :].decode())
