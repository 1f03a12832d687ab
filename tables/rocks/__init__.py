"""Rows in RocksDB, for state that outgrows memory. Read `rows.py` first."""
