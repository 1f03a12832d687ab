"""What a worker tells Prometheus: one registry per built app.

worker.py        every metric that something counts, by name
transactions.py  counts what the engine observes
state.py         what is looked at when Prometheus asks
platforms.py     counts and times calls of payment platforms
"""
