"""Published weights fine-tuned to your classes: plan, linear head, run, blend, and the better of the two."""

__all__ = ["baseline", "finetune"]
