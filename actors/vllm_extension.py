"""What Croupier adds to vLLM's worker processes, which load the class below by name (`worker_extension_cls`)."""

from __future__ import annotations

from typing import Any

from actors import vllm_cpu_kernels, vllm_drafter, vllm_lifeline


class WorkerExtension:
    """Mixed into vLLM's worker class; importing this file in a worker does most of the work."""

    model_runner: Any

    def croupier_drafts(self) -> tuple[int, int]:
        """Tokens drafted since the start, and those of them that the policy confirmed; (0, 0) without drafts."""
        drafter = getattr(self.model_runner, "drafter", None)
        return (drafter.drafted, drafter.accepted) if drafter is not None else (0, 0)


vllm_lifeline.hold_on()
vllm_cpu_kernels.install()
vllm_drafter.install()
