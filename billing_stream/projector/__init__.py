"""The projection: the committed log as tables of PostgreSQL, which can be rebuilt at any time.

Read committed records (`reading`), decode them to rows (`records`, `batch`), write them with
the positions reached, in one transaction (`writing`, `positions`). `service` goes round.
"""
