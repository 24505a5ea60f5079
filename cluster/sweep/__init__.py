"""One recipe many times: every combination of some keys' values, each a run of its own, compared in one table."""
