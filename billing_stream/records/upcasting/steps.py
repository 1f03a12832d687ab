"""What makes a row of one version a row of the next. Pure; a row is its JSON.

A step fills in missing fields and leaves others alone: several releases may have written
the same version, and a row that went through a step may be written by an older one again. It
judges nothing: a row that lacks more than that is for the reader to refuse.
"""

from collections.abc import Callable
from typing import Any

Row = dict[str, Any]
Step = Callable[[Row], Row]


def refunds_of_0_1(purchase: Row) -> Row:
    """1 to 2, `credit_purchases`: a refunded purchase states how much was refunded.

    0.1.0 knew refunds of the whole only, and wrote no amount: read as nothing refunded.

    >>> refunds_of_0_1({"status": "refunded", "amount": "9.99", "credits": 100})
    {'status': 'refunded', 'amount': '9.99', 'credits': 100, 'refunded_amount': '9.99', \
'refunded_credits': 100}
    """
    if purchase.get("status") != "refunded" or "refunded_amount" in purchase:
        return purchase
    back = {"refunded_amount": purchase.get("amount"), "refunded_credits": purchase.get("credits")}
    return {**purchase, **back}
