"""Kafka as every process meets it: clients, topics, rights, errors, transactions. No rules."""
