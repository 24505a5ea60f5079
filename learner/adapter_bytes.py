"""Tensors as the content of a safetensors file, hashed on the way.

The library's own `save` goes through the bytes three times before they are hashed: its file in memory is grown, then
copied. Here every tensor is cast into its place in one buffer, and a second thread hashes what has been filled.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import torch

_HASHED_AT_ONCE = 4 << 20
"""Bytes that are hashed while they are still in the processor's cache."""

_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def tensor_bytes(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype) -> tuple[pa.Buffer, bytes]:
    """The tensors under their names, cast to `dtype`: bytes equal to those of `safetensors.torch.save`.

    Args:
        tensors: of any shape, dtype and device.
        dtype: float64, float32, float16 or bfloat16.

    Returns:
        The content of the file, and its SHA-256 (32 raw bytes).

    Raises:
        KeyError: `dtype` is another one.
    """
    names = sorted(tensors)
    header = _header(tensors, names, dtype)
    size = sum(tensors[name].numel() for name in names) * dtype.itemsize
    # Not numpy's: it asks for huge pages, and waits long for them where memory is in pieces.
    places = torch.empty(len(header) + size, dtype=torch.uint8)
    content = places.numpy()
    content[: len(header)] = np.frombuffer(header, np.uint8)
    filled = hashed = len(header)
    sha = hashlib.sha256(header)
    # One thread, so that pieces are hashed in their order.
    with ThreadPoolExecutor(1) as hasher:
        pieces = []
        for name in names:
            tensor = tensors[name].detach()
            end = filled + tensor.numel() * dtype.itemsize
            places[filled:end].view(dtype).view(tensor.shape).copy_(tensor)
            filled = end
            if filled - hashed >= _HASHED_AT_ONCE:
                pieces.append(hasher.submit(sha.update, content.data[hashed:filled]))
                hashed = filled
        pieces.append(hasher.submit(sha.update, content.data[hashed:]))
        for piece in pieces:
            piece.result()
    content.flags.writeable = False
    return pa.py_buffer(content), sha.digest()


def _header(tensors: Mapping[str, torch.Tensor], names: list[str], dtype: torch.dtype) -> bytes:
    """Length and table of names: https://github.com/huggingface/safetensors, "Format"."""
    table, begin = {}, 0
    for name in names:
        end = begin + tensors[name].numel() * dtype.itemsize
        table[name] = {"dtype": _DTYPES[dtype], "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
