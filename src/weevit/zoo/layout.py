"""The tensors of an architecture: names, shapes, and other spellings of the names.

Names inside weevit are those of timm's `VisionTransformer`. Two other spellings exist: timm's RoPE models call the
layer scales `gamma_1` and `gamma_2`, and wrappers put a word in front of every name.
"""

from __future__ import annotations

from weevit.zoo.architectures import PATCH, Architecture

Shape = tuple[int, ...]

WRAPPER_PREFIXES = ("timm_model.", "module.", "_orig_mod.", "model.")
"""Prefixes of every name from transformers' TimmWrapper, DistributedDataParallel, torch.compile and Lightning's modules
(mostly `self.model = ...`)."""

_ROPE_SPELLING = {".ls1.gamma": ".gamma_1", ".ls2.gamma": ".gamma_2"}
"""Endings inside weevit -> endings in timm's RoPE checkpoints."""


def tensor_shapes(
    arch: Architecture, num_classes: int, grid: tuple[int, int] | None = None, in_chans: int = 3
) -> dict[str, Shape]:
    """Every tensor of a checkpoint of this architecture, in the order of the forward pass.

    Args:
        arch: the row.
        num_classes: width of the head; 0 for none.
        grid: rows and columns of patches of the learned positions; the native grid where None.
        in_chans: image channels.

    Returns:
        Name (weevit's spelling) -> shape.
    """
    rows, columns = grid or (arch.img_size // PATCH, arch.img_size // PATCH)
    D = arch.embed_dim
    shapes: dict[str, Shape] = {}
    if arch.class_token:
        shapes["cls_token"] = (1, 1, D)
    if arch.registers:
        shapes["reg_token"] = (1, arch.registers, D)
    if arch.position == "learned":
        shapes["pos_embed"] = (1, rows * columns + (arch.num_prefix if arch.embeds_prefix else 0), D)
    shapes["patch_embed.proj.weight"] = (D, in_chans, PATCH, PATCH)
    shapes["patch_embed.proj.bias"] = (D,)
    block = _parallel_block(arch) if arch.block == "parallel" else _serial_block(arch)
    for index in range(arch.depth):
        shapes.update({f"blocks.{index}.{name}": shape for name, shape in block.items()})
    shapes.update(_norm("norm" if arch.norm == "before_pool" else "fc_norm", D))
    if num_classes:
        shapes.update(_linear("head", D, num_classes))
    return shapes


def _serial_block(arch: Architecture) -> dict[str, Shape]:
    D, H = arch.embed_dim, arch.mlp_dim
    shapes = _norm("norm1", D)
    shapes.update(_linear("attn.qkv", D, 3 * D, bias=arch.qkv_bias == "qkv"))
    if arch.qkv_bias == "qv":
        shapes.update({"attn.q_bias": (D,), "attn.v_bias": (D,)})
    shapes.update(_diff("attn.", arch))
    shapes.update(_linear("attn.proj", D, D))
    shapes.update(_scale("ls1", arch))
    shapes.update(_norm("norm2", D))
    shapes.update(_linear("mlp.fc1", D, H))
    shapes.update(_linear("mlp.fc2", H, D))
    shapes.update(_scale("ls2", arch))
    return shapes


def _parallel_block(arch: Architecture) -> dict[str, Shape]:
    D, H = arch.embed_dim, arch.mlp_dim
    shapes = _norm("in_norm", D)
    shapes.update(_linear("in_proj", D, H + 3 * D))  # the MLP's rows first, then query, key, value
    shapes.update(_diff("", arch))
    if arch.attention == "diff":
        shapes.update(_linear("out_proj", D + H, D))  # attention's columns first, then the MLP's
    else:
        shapes.update(_linear("attn_out_proj", D, D))
        shapes.update(_linear("mlp_out_proj", H, D))
    shapes.update(_scale("ls", arch))
    return shapes


def _linear(name: str, inputs: int, outputs: int, bias: bool = True) -> dict[str, Shape]:
    weight: dict[str, Shape] = {f"{name}.weight": (outputs, inputs)}
    return weight | ({f"{name}.bias": (outputs,)} if bias else {})


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _scale(name: str, arch: Architecture) -> dict[str, Shape]:
    return {f"{name}.gamma": (arch.embed_dim,)} if arch.layer_scale is not None else {}


def _diff(prefix: str, arch: Architecture) -> dict[str, Shape]:
    if arch.attention != "diff":
        return {}
    names = ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")
    lambdas: dict[str, Shape] = {f"{prefix}{name}": (arch.head_dim // 2,) for name in names}
    return lambdas | {f"{prefix}sub_norm.weight": (arch.head_dim,)}


def to_timm_name(name: str, arch: Architecture) -> str:
    """Weevit's spelling of a tensor's name -> timm's, as in checkpoint files."""
    if arch.position == "rope":
        for ours, theirs in _ROPE_SPELLING.items():
            if name.endswith(ours):
                return name.removesuffix(ours) + theirs
    return name


def from_timm_name(name: str, arch: Architecture) -> str:
    """A name in a file, with or without wrapper words -> weevit's spelling; unknown names are unchanged."""
    while prefix := next((word for word in WRAPPER_PREFIXES if name.startswith(word)), ""):
        name = name.removeprefix(prefix)
    if arch.position == "rope":
        for ours, theirs in _ROPE_SPELLING.items():
            if name.endswith(theirs):
                return name.removesuffix(theirs) + ours
    return name
