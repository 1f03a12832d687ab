"""`billing-stream doctor`: is everything there that a worker needs, and what to do where not.

finding.py   what a check found
machine.py   this machine and its settings
brokers.py   the brokers, and the replicas of partitions
cluster.py   the topics, rights, workers
state.py     the versions of the newest rows
database.py  PostgreSQL, when there is one
cli.py       runs them all, and tells
"""
