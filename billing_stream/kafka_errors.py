"""What an error of Kafka means: whether the same request can succeed later."""

from aiokafka import errors as kafka


def is_retriable(error: BaseException | None) -> bool:
    """Whether the error, or the one that it wraps, can pass when the request is repeated.

    A topic that does not exist is not waited for, although Kafka counts it among these.
    """
    while error is not None:
        if isinstance(error, kafka.UnknownTopicOrPartitionError):
            return False
        if isinstance(error, kafka.ConcurrentTransactions):
            return True
        if isinstance(error, kafka.KafkaError) and error.retriable:
            return True
        error = error.__cause__
    return False
