"""The agents: `inputs.py` declares what each reads."""
