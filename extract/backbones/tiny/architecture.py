"""The shapes of the embedded default: a small Stable Diffusion and a small DINOv2, built with seeded random weights.

The same builders serve three callers: the trainer (`matchkit.pipelines.train_tiny`) starts from them, tests run on
them, and a random-weight control is what they return untrained. Everything is in the two libraries' own formats, so
that the trained folders load with plain `StableDiffusionPipeline.from_pretrained` and `Dinov2Model.from_pretrained`.

An input of 128 x 128 pixels becomes a latent of 4 x 16 x 16 (stride 8); the U-Net's twelve decoder ResNets then stand
at 2 x 2, 4 x 4, 8 x 8 and 16 x 16 cells, three each, and the ViT's patch tokens at 16 x 16 cells.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, Dinov2Config, Dinov2Model

from matchkit.extract.backbones.tiny.tokenizer import CONTEXT_LENGTH, build_tokenizer

Pipeline: TypeAlias = StableDiffusionPipeline
Vae: TypeAlias = AutoencoderKL
Unet: TypeAlias = UNet2DConditionModel
TextEncoder: TypeAlias = CLIPTextModel
Tokenizer: TypeAlias = CLIPTokenizer
Scheduler: TypeAlias = DDIMScheduler
Vit: TypeAlias = Dinov2Model
"""The libraries' classes under the trainer's names: only `extract.backbones` imports diffusers and transformers."""

INPUT_SIZE = 128
"""Edge of the square input image, in pixels."""

LATENT_STRIDE = 8
"""Input pixels a latent cell, along each axis; also the patch size of the ViT."""

LATENT_CHANNELS = 4

UNET_CHANNELS = (32, 64, 80, 80)
"""Channels a cell at 16 x 16, 8 x 8, 4 x 4 and 2 x 2 cells: what fits 12 MB in fp16 with the rest (`specs/tiny.md`)."""

VAE_CHANNELS = (16, 24, 40, 48)
"""Channels a pixel at 128, 64, 32 and 16 pixels: few where pixels are many, since that is where the time goes."""

TEXT_WIDTH = 64
VIT_WIDTH = 96
VIT_DEPTH = 6


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws torch's random numbers from `seed` inside the block, and leaves the caller's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def build_scheduler() -> Scheduler:
    """Returns the noise schedule of Stable Diffusion 1.x: 1,000 steps, `scaled_linear` from 0.00085 to 0.012."""
    return Scheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def build_vae(seed: int = 0) -> Vae:
    """Returns an autoencoder of stride 8: images (b, 3, h, w) in [-1, 1] to latents (b, 4, h/8, w/8).

    `scaling_factor` is 1 until the trainer has measured the latents.
    """
    with seeded(seed):
        return Vae(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=VAE_CHANNELS,
            layers_per_block=1,
            latent_channels=LATENT_CHANNELS,
            norm_num_groups=8,
            sample_size=INPUT_SIZE,
            scaling_factor=1.0,
        )


def build_unet(seed: int = 0) -> Unet:
    """Returns a U-Net of Stable Diffusion's plan: four up blocks of three ResNets, cross-attention in three."""
    with seeded(seed):
        return Unet(
            sample_size=INPUT_SIZE // LATENT_STRIDE,
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            block_out_channels=UNET_CHANNELS,
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            layers_per_block=2,
            # diffusers' old name for the number of heads, kept as Stable Diffusion 1.x writes it
            attention_head_dim=2,
            cross_attention_dim=TEXT_WIDTH,
            norm_num_groups=8,
        )


def prepare_for_training(unet: Unet) -> None:
    """Lays the U-Net's numbers out for speed on a CPU; neither its weights' values nor its configuration change.

    Channels last, and attention as plain matrix products: torch's fused attention is slow there for heads this narrow.
    """
    unet.to(memory_format=torch.channels_last)
    unet.set_attn_processor(AttnProcessor())


def build_text_encoder(tokenizer: Tokenizer, *, seed: int = 0) -> TextEncoder:
    """Returns a two-layer CLIP text model for `tokenizer`: token ids (b, 77) to a context (b, 77, 64)."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with seeded(seed):
        return TextEncoder(config)


def build_pipeline(seed: int = 0) -> Pipeline:
    """Returns the whole pipeline with random weights: the same seed gives the same weights."""
    tokenizer = build_tokenizer()
    return Pipeline(
        vae=build_vae(seed),
        text_encoder=build_text_encoder(tokenizer, seed=seed),
        tokenizer=tokenizer,
        unet=build_unet(seed),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def build_vit(seed: int = 0) -> Vit:
    """Returns a six-layer DINOv2: normalised images (b, 3, 128, 128) to a class and 256 patch tokens (b, 257, 96)."""
    config = Dinov2Config(
        hidden_size=VIT_WIDTH,
        num_hidden_layers=VIT_DEPTH,
        num_attention_heads=3,
        mlp_ratio=4,
        image_size=INPUT_SIZE,
        patch_size=LATENT_STRIDE,
    )
    with seeded(seed):
        return Vit(config)
