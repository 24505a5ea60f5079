"""Why vLLM did not start, in one error: cause, cure and the engine's last lines."""

from __future__ import annotations

from protocol.errors import ServerStartError

_CURES = (
    (
        ("out of memory", "Free memory on device", "Available memory on node"),
        "lower gpu_memory_utilization or kv_cache_bytes, or take the memory back from other processes",
    ),
    (
        ("cache blocks", "KV cache is needed", "kv_cache_memory"),
        "raise kv_cache_bytes (or gpu_memory_utilization), or lower max_model_len",
    ),
    (
        ("architectures", "not supported"),
        "serve an architecture that vLLM knows, or set kind: transformers",
    ),
    (
        ("max_model_len", "max_position_embeddings"),
        "lower max_model_len to what the model was trained for",
    ),
    (
        ("safetensors", "weights", "KeyError", "No such file"),
        "check that the model folder is complete and was saved for this architecture",
    ),
    (("No module named",), "install vLLM (see the README), or set kind: transformers"),
)


def start_error(model: str, error: Exception, last_words: str, log_tail: str) -> ServerStartError:
    """The error to raise instead of `error`.

    Args:
        model: Model folder.
        error: What the engine's constructor raised; often only says that a child process failed.
        last_words: Root error from the engine's log and exit codes; may be empty.
        log_tail: Last lines of the engine's log; may be empty.
    """
    if isinstance(error, ServerStartError):
        return error
    reason = f"{type(error).__name__}: {error}"
    everything = f"{last_words} {reason} {log_tail}"
    cure = next((cure for signs, cure in _CURES if any(sign in everything for sign in signs)), "")
    message = f"vLLM did not start with {model}: {last_words or reason}"
    if log_tail:
        message += f"\n--- last lines of the engine ---\n{log_tail}\n---"
    return ServerStartError(message, cure or "see the lines above; `croupier doctor` checks the installation")
