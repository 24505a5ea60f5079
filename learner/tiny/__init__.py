"""Genuine vision-language models, small enough to train from scratch on a CPU; built by code, no download."""
