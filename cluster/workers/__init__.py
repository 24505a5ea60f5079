"""Rollout workers as Ray actors, and the pool of them."""
