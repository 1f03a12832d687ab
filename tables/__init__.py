"""The tables: what is known of every merchant, kept in memory, backed by changelogs."""
