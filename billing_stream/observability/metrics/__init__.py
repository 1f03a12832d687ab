"""What a worker tells Prometheus: one registry per built app."""
