"""Several learner processes that train one policy: who computes what, and how the results come together."""
