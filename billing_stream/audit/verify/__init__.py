"""An independent verifier: reads the whole log and holds it against the contract.

It imports nothing of the code that it judges; it only reads.
"""
