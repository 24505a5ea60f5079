"""What a run does, one stage after the other."""
