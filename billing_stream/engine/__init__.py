"""The commit engine: records in, one pure decision, one transaction out.

Read in this order: `partition_processor` and `log` (what it asks of the application, and of a log),
`committer` and `lane` (one per partition), `lanes` (those of this worker), `commit_scheduler`,
`kafka_writer`, `kafka_log`, `timers`.
"""
