"""Diffusion models: DreamBooth with LoRA of any method, by `loram dreambooth`.

Needs the extra `loram[vision]` (diffusers, pillow).
"""
