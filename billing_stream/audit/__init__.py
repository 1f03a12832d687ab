"""Reads the log and judges it: `verify` against the contract, `replay` and `explain` by cause."""
