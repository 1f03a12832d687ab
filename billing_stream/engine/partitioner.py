"""Which partition a key belongs to: the same for us, for producers, for the web."""

from aiokafka.partitioner import murmur2


def partition_of(key: str, partitions: int) -> int:
    """Kafka's default partitioner (murmur2) for the key's UTF-8 bytes."""
    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)
