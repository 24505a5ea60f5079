"""Policy model, losses and training: torch, transformers and peft; knows neither vLLM nor environments."""

import logging

# PEFT imports bitsandbytes where it is installed, which then asks on some CPUs for a kernel that nothing here uses.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
