"""Everything that can be set, from the environment or a `.env`, checked at the start."""
