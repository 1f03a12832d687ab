"""billing-stream: free trials and credit packs for merchants, exactly once, on Kafka."""

__version__ = "0.5.1"
