"""`billing-stream reconcile`: all purchases held against their platforms, once."""
