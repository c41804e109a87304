"""What computes the transformer blocks of a UNet: torch, torch's compiler, or xformers."""

from typing import Literal

from diffusers import UNet2DConditionModel

from matchkit.core.errors import ConfigError

Kernels = Literal["torch", "compiled", "xformers"]
"""`torch` is its scaled-dot-product attention; `compiled` takes a minute at the first batch and changes last bits;
`xformers` needs that package and a GPU, and is worth it where it is faster than torch's own there."""


def with_kernels(unet: UNet2DConditionModel, kernels: Kernels) -> UNet2DConditionModel:
    """The network with these kernels; the hooks on its ResNets stay outside of what is compiled.

    Raises:
        ConfigError: xformers is not installed, or there is no GPU for it.
    """
    if kernels == "compiled":
        unet.compile_repeated_blocks()
    if kernels == "xformers":
        try:
            unet.enable_xformers_memory_efficient_attention()
        except (ImportError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"kernels xformers cannot run here: {reason}. Take kernels=torch") from error
    return unet
