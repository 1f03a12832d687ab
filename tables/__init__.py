"""The tables: the rows of every merchant, kept in memory, backed by changelogs."""
