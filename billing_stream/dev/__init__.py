"""A real Kafka and a real PostgreSQL on this machine, for development, tests and benchmarks.

Nothing in production imports this package, and it imports nothing of the rest.
"""
