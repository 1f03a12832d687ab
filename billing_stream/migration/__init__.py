"""Bringing merchants and purchases in from the service before this one.

`old_database` reads, `mapping` makes commands of rows and repairs faults, `sending`
sends them, `here` reads what became of them, `comparing` holds the two against each other.
"""
