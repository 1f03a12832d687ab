"""The catalogue for operators: set a version, show the packs on sale, and the history."""
