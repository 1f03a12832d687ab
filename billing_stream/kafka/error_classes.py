"""What can be done after an error of Kafka (docs/kafka-errors.md has each code), and refusals."""

from enum import StrEnum

from aiokafka import errors as kafka


class ErrorClass(StrEnum):
    """What can be done after an error.

    RETRIABLE: the same request again. ABORTABLE: the transaction cannot commit, the next one can.
    FENCED: another owner has taken over. FATAL: nothing, until somebody changes something.
    """

    RETRIABLE = "retriable"
    ABORTABLE = "abortable"
    FENCED = "fenced"
    FATAL = "fatal"


# By the numbers of the protocol: the client has no names for those from 80 on.
_RETRIABLE = frozenset({3, 5, 6, 7, 9, 14, 15, 16, 19, 20, 22, 25, 27, 41, 46, 51, 55, 56, 79})
_ABORTABLE = frozenset({2, 10, 17, 18, 29, 32, 45, 59, 87, 120})
_FENCED = frozenset({47, 49, 82, 90})


def class_of_code(code: int) -> ErrorClass:
    """The class of an error code of the protocol; one that is not known is fatal."""
    if code in _RETRIABLE:
        return ErrorClass.RETRIABLE
    if code in _ABORTABLE:
        return ErrorClass.ABORTABLE
    return ErrorClass.FENCED if code in _FENCED else ErrorClass.FATAL


def class_of(error: BaseException | None) -> ErrorClass:
    """The class of an error of the client, or of the one that it has wrapped in it."""
    while error is not None:
        match error:
            case kafka.BrokerResponseError():
                return class_of_code(error.errno)
            case kafka.ProducerFenced():
                return ErrorClass.FENCED
            case kafka.RecordTooLargeError():
                return ErrorClass.ABORTABLE
            case kafka.KafkaError() if error.retriable or isinstance(
                error, kafka.KafkaTimeoutError
            ):
                return ErrorClass.RETRIABLE
        error = error.__cause__
    return ErrorClass.FATAL


REFUSALS = (
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
)
"""The broker knows us, and does not let us."""

ACLS = "`billing-stream topics acls` prints what each process must be allowed to do"


def authorization_error(error: BaseException | None) -> str | None:
    """What a broker does not allow, when that is the error or what it came from."""
    while error is not None:
        if isinstance(error, REFUSALS):
            what = " ".join([_KINDS[type(error)], *(str(part) for part in error.args)])
            return f"Kafka does not allow it: {what}: {ACLS}"
        if isinstance(error, BaseExceptionGroup):
            found = (authorization_error(one) for one in error.exceptions)
            return next((text for text in found if text), None)
        error = error.__cause__ or error.__context__
    return None


_KINDS = {
    kafka.TopicAuthorizationFailedError: "topic",
    kafka.GroupAuthorizationFailedError: "group",
    kafka.ClusterAuthorizationFailedError: "cluster",
    kafka.TransactionalIdAuthorizationFailed: "transactional id",
}
