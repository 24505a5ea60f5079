"""The learner as a Ray actor, and several of them as one."""
