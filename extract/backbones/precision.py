"""The number types of arithmetic and of maps at rest, by the names that parameters use."""

from typing import Literal

import torch

Precision = Literal["fp32", "fp16", "bf16"]
PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
STORED: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "int8": torch.float16,
    "int4": torch.float16,
}
"""The type in which a backbone hands its maps over; quantised from fp16, they equal a converted fp16 store."""
