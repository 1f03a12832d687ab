"""The metrics of a worker for Prometheus: one registry per built app."""
