"""Everything between an environment and the learner: prompts, parsing, samplers, inference servers, rollouts.

Imports `protocol` and `envs`. vLLM and torch are imported inside the server files alone, when a server starts.
"""
