"""`billing-stream forget`: have a merchant's personal data erased, and check that it was."""
