"""The family as PyTorch modules: timm's names, timm's keys, timm's numbers. Needs `weevit[train]`."""

__all__ = ["create", "devices", "layers", "save", "vit"]
