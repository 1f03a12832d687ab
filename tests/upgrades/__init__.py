"""State that released versions wrote, read by the program of now."""
