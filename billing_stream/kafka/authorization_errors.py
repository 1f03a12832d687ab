"""What a broker does not allow us, in words that say what to do next."""

from aiokafka import errors as kafka

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
