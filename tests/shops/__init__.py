"""Which merchant has a shop, through lanes and on a real Kafka."""
