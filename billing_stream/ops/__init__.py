"""Commands of the operator: dead letters, erasure, doctor, descriptions of the service."""
