"""Rows that older releases wrote, read as if the present one had written them.

versions.py  the version that each changelog record carries, and how it is read
steps.py     one pure function per table and version that made rows of the next version

The rules of an upgrade are in docs/upgrade.md. The verifier has its own reading of old rows.
"""
