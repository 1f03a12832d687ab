"""The main job as a story, on a real Kafka."""
