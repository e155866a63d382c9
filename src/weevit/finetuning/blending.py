"""Weights on the line between a linear head and the model fine-tuned from it.

Such weights are often better than those at either end, and better calibrated (arXiv:2109.01903): training partly
memorises the training images. The best are chosen by the log loss on the held-out split, which a few hundred images
determine better than the accuracy.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

import torch

from weevit.datasets.dataset import Split
from weevit.finetuning.task import Task
from weevit.nn.create import from_checkpoint
from weevit.nn.save import save
from weevit.runs import folder as run_folder
from weevit.store.files import replacing_folder
from weevit.training.machine import choose_device
from weevit.training.module import preprocessing
from weevit.training.validation import Validation, figures
from weevit.training.watch import Progress, Watcher
from weevit.zoo.checkpoint import Checkpoint, read_checkpoint

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the way from the head to the fine-tuned weights."""


def blend(
    task: Task, start: Checkpoint, tuned: Checkpoint, held: Split, folder: Path, watcher: Watcher
) -> tuple[Checkpoint, dict[float, float]]:
    """Write the best of the weights on the line to a folder in the hub's format.

    Args:
        task: device and threads.
        start: the checkpoint that training started from, with the same classes.
        tuned: the trained checkpoint; image size and preprocessing are its own.
        held: images that neither was trained on.
        folder: folder for the weights.
        watcher: told the progress.

    Returns:
        The checkpoint, and the log loss by share of the way; infinite where an answer is not finite.
    """
    device = choose_device(task.device)
    model = from_checkpoint(tuned, {}).to(device)
    far = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    options = {"img_size": model.img_size, "num_classes": model.num_classes}
    near = from_checkpoint(start, options).to(device).state_dict()
    asked = Validation(held, preprocessing(model), 32, task.threads or torch.get_num_threads())
    losses: dict[float, float] = {}

    def blend_at(share: float) -> None:
        model.load_state_dict({name: torch.lerp(near[name], far[name], share) for name in far})

    for number, share in enumerate(SHARES):
        watcher.moved(Progress(number, len(SHARES), len(SHARES), doing="blending"))
        blend_at(share)
        answers = asked.logits(model, device, nullcontext)
        assert answers is not None
        loss = figures(*answers)["val_loss"]
        losses[share] = loss if math.isfinite(loss) else math.inf
    blend_at(min(losses, key=losses.__getitem__))
    with run_folder.TRAINING.writing(folder.parent), replacing_folder(folder) as tmp:
        save(model.cpu(), tmp, [label.id for label in tuned.labels or ()], tuned.decision)
    return read_checkpoint(folder), losses
