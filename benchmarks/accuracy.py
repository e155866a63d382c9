"""ViT-Ti on the 500 shared photos: top-1 and top-5, weevit and timm in the same run.

    python benchmarks/accuracy.py

To reach: 413 and 478 of 500, as timm gives. Needs the shared data, and timm for its column.
"""

from __future__ import annotations

import numpy as np
from common import photos, vit_tiny

import weevit
from weevit.zoo.labels import imagenet_labels


def main() -> None:
    files, folder = photos(), vit_tiny()
    labels = imagenet_labels(1000)
    assert labels is not None
    index = {label.id: number for number, label in enumerate(labels)}
    truth = np.array([index[path.name.partition("_")[0]] for path in files])
    ours = np.stack([result.logits for result in weevit.load(folder).stream(files, outputs=("logits",))])
    theirs = timm_logits(folder, files)
    for name, logits in (("weevit", ours), ("timm", theirs)):
        order = np.argsort(-logits, axis=1)
        top1, top5 = (order[:, 0] == truth).sum(), (order[:, :5] == truth[:, None]).any(axis=1).sum()
        print(f"{name:<7} top-1 {top1}/{len(files)}   top-5 {top5}/{len(files)}")
    print(f"greatest difference of a logit: {np.abs(ours - theirs).max() / np.abs(theirs).max():.1e} of the greatest")


def timm_logits(folder: object, files: list) -> np.ndarray:
    import timm
    import torch
    from PIL import Image

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    rows = []
    with torch.inference_mode():
        for path in files:
            rows.append(model(transform(Image.open(path).convert("RGB"))[None])[0].numpy())
    return np.stack(rows)


if __name__ == "__main__":
    main()
