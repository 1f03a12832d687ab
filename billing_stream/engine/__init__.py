"""The commit engine: records in, one pure decision, one transaction out.

Read in this order:

    processor.py   what the engine asks of the application
    log.py         what the engine asks of the log (Kafka, or a simulated one)
    lane.py        one per partition: queue, group commit, apply after the commit
    lanes.py       the lanes that this worker owns
    kafka_log.py   the log on Kafka: fenced transactions, restore
    transport.py   Faust's consumer, delivering batches and seeking to our positions
    recovery.py    Faust's recovery, as fence, restore, seek, start
    tables.py      Faust's tables as a view of what the lanes hold
    timers.py      wakes lanes in which something fell due
"""
