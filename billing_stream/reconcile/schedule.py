"""When the platform is asked about an unpaid purchase. Pure, and without a state of its own."""

from datetime import datetime, timedelta

YOUNG = timedelta(hours=2)
HOUR = timedelta(hours=1)
# So long before a purchase expires its platform is asked, which has this time to answer.
LEAD_MAX = timedelta(minutes=1)


def next_lookup(
    created_at: datetime, expires_at: datetime, every: timedelta, moment: datetime
) -> datetime | None:
    """The first look-up after `moment`; None after the last one.

    Every `every` in the first two hours, then hourly, once before the purchase expires, and once
    afterwards, for a payment in between.

    >>> from datetime import UTC
    >>> opened = datetime(2026, 11, 30, 12, tzinfo=UTC)
    >>> def after(**age):
    ...     ends, every = opened + timedelta(hours=24), timedelta(minutes=5)
    ...     found = next_lookup(opened, ends, every, opened + timedelta(**age))
    ...     return str(found and found - opened)
    >>> after(), after(minutes=7), after(hours=2), after(hours=23, minutes=58)
    ('0:05:00', '0:10:00', '3:00:00', '23:59:00')
    >>> after(hours=24), after(hours=25)
    ('1 day, 0:05:00', 'None')
    """
    last = expires_at - min(LEAD_MAX, (expires_at - created_at) / 2)
    if moment < created_at + YOUNG:
        first, step = created_at, every
    else:
        first, step = created_at + YOUNG, max(every, HOUR)
    regular = first + step * max(1, (moment - first) // step + 1)
    for found in (regular, last, expires_at + every):
        if moment < found and (found is not regular or found < last):
            return found
    return None
