"""Why an import could not be made."""

from billing_stream.errors import BillingError


class ImportFailed(BillingError):
    """What was to be read or written could not be; the text says what to do next."""
