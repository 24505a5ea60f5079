"""What the documentation shows: examples that are tested, and programs that draw its pictures."""
