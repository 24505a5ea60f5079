"""The asynchronous run: actors and learner at the same time, staleness bounded by what may begin."""
