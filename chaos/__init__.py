"""A nemesis for real workers on a real broker, and a soak."""
