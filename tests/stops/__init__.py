"""Processes stopped at random moments of their first seconds: each must end well, and in time."""
