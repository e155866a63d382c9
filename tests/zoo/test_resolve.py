"""What a model argument may be, and what is said where it means nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fakes
import pytest
from loopback_hub import COMMIT, LoopbackHub

from weevit.errors import CheckpointError, HubError, UnknownModelError, UsageError
from weevit.zoo.architectures import ARCHITECTURES
from weevit.zoo.resolve import resolve
from weevit.zoo.weights import ALIASES

REPO = f"timm/{fakes.TINY_TAG}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.folder(tmp_path_factory.mktemp("published") / "mine")


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.add(REPO, folder)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.mark.parametrize("name", ["tiny", fakes.TINY, fakes.TINY_TAG, f"hf-hub:{REPO}", f"hf-hub:{REPO}@{COMMIT}"])
def test_names_on_the_hub(name: str, hub: LoopbackHub) -> None:
    found = resolve(name)
    assert found.name == fakes.TINY_TAG
    assert found.source == f"hf-hub:{REPO}"


def test_local_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    for name in ("mine", "./mine", "local-dir:mine", str(folder), folder, "mine/model.safetensors"):
        assert resolve(name).path.resolve() == (folder / "model.safetensors").resolve()


def test_a_known_name_wins_over_a_folder_of_that_name(
    hub: LoopbackHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").symlink_to(folder)
    assert resolve("tiny").source == f"hf-hub:{REPO}"
    assert resolve("./tiny").source == "tiny"


def test_a_repository_that_holds_another_architecture(hub: LoopbackHub, folder: Path) -> None:
    hub.add("timm/vit_pwee_patch16_reg1_gap_256.sbb_in1k", folder)
    with pytest.raises(CheckpointError, match="and not vit_pwee"):
        resolve("pwee")


def test_revisions(hub: LoopbackHub, folder: Path) -> None:
    assert resolve(f"hf-hub:{REPO}@{COMMIT}", revision=COMMIT).name == fakes.TINY_TAG
    with pytest.raises(UsageError, match="one revision"):
        resolve(f"hf-hub:{REPO}@{COMMIT}", revision="main")
    with pytest.raises(UsageError, match="has no revision"):
        resolve(folder, revision="main")
    with pytest.raises(HubError, match="no such revision"):
        resolve("tiny", revision="v2")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pwe", "'pwee'"),
        ("vit_pwee_patch16_reg1_gap_265", "vit_pwee_patch16_reg1_gap_256"),
        ("vit_base_patch16_reg4_gap_256", "No weights are published"),
        ("vit_pwee_patch16_reg1_gap_256.mine", "hf-hub:timm/vit_pwee_patch16_reg1_gap_256.mine"),
        ("vit_pwee_patch16_reg1_gap_256.mine", "vit_pwee_patch16_reg1_gap_256.sbb_in1k"),
        ("some/model", "hf-hub:some/model"),
        ("https://huggingface.co/some/model/tree/main", "hf-hub:some/model"),
        ("resnet50", "weevit models"),
        ("", "weevit models"),
        ("x" * 10_000, "weevit models"),
        ("nul\0", "weevit models"),
    ],
)
def test_names_that_mean_nothing(name: str, says: str) -> None:
    with pytest.raises(UnknownModelError) as caught:
        resolve(name)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["./nothing", "local-dir:nothing", "nothing.safetensors", "nothing.pth", "~/no/thing"])
def test_paths_that_are_not_there(name: str) -> None:
    with pytest.raises(CheckpointError):
        resolve(name)


@pytest.mark.parametrize("name", ["hf-hub:", "hf-hub:x", "hf-hub:a/b/c", "hf-hub:../../x"])
def test_hub_ids_that_cannot_be_meant(name: str) -> None:
    with pytest.raises(UsageError):
        resolve(name)


def test_every_name_leads_to_one_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(repo_id: str, *_: object) -> Path:
        asked.append(repo_id)
        raise HubError("not now")

    monkeypatch.setattr("weevit.zoo.resolve.fetch", fetch)
    elsewhere = {"vit_base_patch16_reg4_gap_256", "vit_micro_patch16_reg1_gap_64"}  # never published; comes with weevit
    for name in [*(set(ALIASES) - {"digits"}), *fakes.PUBLISHED, *(set(ARCHITECTURES) - elsewhere)]:
        with pytest.raises(HubError):
            resolve(name)
    assert set(asked) == {weight.hub_id for weight in fakes.PUBLISHED.values()}
