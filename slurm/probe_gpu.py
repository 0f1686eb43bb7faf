"""What torch makes of the GPUs of the node that this runs on."""

from __future__ import annotations

from typing import Any


def look(device: str) -> dict[str, Any]:
    """Versions, GPUs and whether one computes; on a `cpu` site, whether torch computes at all."""
    import torch

    found: dict[str, Any] = {"torch": torch.__version__, "cuda_build": torch.version.cuda}
    if device == "cpu":
        return found | {"computed": _compute("cpu")}
    found |= driver()
    found["count"] = torch.cuda.device_count()
    found["archs"] = torch.cuda.get_arch_list()
    found["devices"] = [_device(number) for number in range(found["count"])]
    return found | {"computed": _compute("cuda") if torch.cuda.is_available() else "no GPU is visible"}


def _device(number: int) -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(number)
    capability = [properties.major, properties.minor]
    memory_gb = round(properties.total_memory / 1e9)
    return {"name": properties.name, "capability": capability, "memory_gb": memory_gb}


def driver() -> dict[str, str | None]:
    """The driver's version and the newest CUDA that it supports; None without a driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
        version, newest = pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlSystemGetCudaDriverVersion()
        pynvml.nvmlShutdown()
    except Exception as error:  # no library, no driver, no right to ask
        return {"driver": None, "driver_cuda": None, "driver_error": str(error)}
    return {"driver": str(version), "driver_cuda": f"{newest // 1000}.{newest % 1000 // 10}"}


def _compute(device: str) -> str:
    """Empty if a small product comes out right."""
    import torch

    try:
        square = torch.full((64, 64), 0.5, device=device)
        value = float((square @ square).sum())
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return "" if value == 64 * 64 * 16 else f"a product is {value}, not {64 * 64 * 16}"
