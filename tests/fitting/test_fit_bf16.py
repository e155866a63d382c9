"""A head on embeddings in bf16: fitted, checked against its checkpoint within bf16's rounding, and said to be bf16."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

import pretended_gpu

import weevit
from weevit.evaluation.saved import read_evaluation


def test_a_head_on_a_gpu(backbone: Path, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretended_gpu.pretend(monkeypatch, steady=8)
    model = weevit.load(backbone, device="cuda")
    fit = weevit.fit(shop, tmp_path / "mine", model, allow_missing=True)
    assert fit.difference > 1e-4  # bf16 rounds; within bounds, or the fit had refused its own checkpoint
    run = json.loads((fit.folder / "run.json").read_text(encoding="utf-8"))
    assert [run["model"][name] for name in ("engine", "precision", "device")] == ["torch", "bf16", "cuda"]
    assert "torch on cuda in bf16" in (fit.folder / "report.html").read_text(encoding="utf-8")
    saved = read_evaluation(fit.folder / "validation")
    assert saved.model["precision"] == "bf16"
    in_fp32 = weevit.evaluate(fit.folder, shop, split="validation")
    assert in_fp32.model["precision"] == "fp32"
    assert abs(in_fp32.metrics["top1"] - fit.metrics["top1"]) <= 0.1
