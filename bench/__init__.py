"""Benchmarks: the goals, measured against a real broker."""
