"""`billing-stream forget`: have what is personal of a merchant removed, and see that it was."""
