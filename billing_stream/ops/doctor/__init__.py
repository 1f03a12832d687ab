"""`billing-stream doctor`: is everything there that a worker needs, and what to do where not."""
