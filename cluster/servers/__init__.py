"""Inference servers as Ray actors, and the way of requests to them."""
