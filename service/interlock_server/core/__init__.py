"""Use cases: commands that say what they need, decide, and write; and queries."""
