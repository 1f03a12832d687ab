"""A merchant at any time, from Kafka alone, and where each of its credits came from."""
