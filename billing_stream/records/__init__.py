"""The records of every topic: names, bytes to commands and back, rows of older releases."""
