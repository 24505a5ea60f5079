"""Policy model, losses and training: torch, transformers and peft; knows neither vLLM nor environments."""
