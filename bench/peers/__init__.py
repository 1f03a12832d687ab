"""The same work on other systems, each a process of its own, measured side by side."""
