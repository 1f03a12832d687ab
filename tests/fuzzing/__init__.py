"""Batches of every shape, as bytes, through a real broker into a real worker."""
