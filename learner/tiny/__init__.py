"""Genuine vision-language models, small enough to train from scratch on a CPU; built by code, no download.

This file imports nothing, so that `learner.tiny.config` can be read without loading torch.
"""
