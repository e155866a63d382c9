"""A run resumes with the recipe that it was begun with, also where an earlier version knew fewer keys."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from weevit.errors import TrainingError
from weevit.recipes.recipe import flat, load_recipe
from weevit.runs.folder import refuse_other_recipe


def test_a_key_that_an_earlier_version_did_not_know_had_its_default() -> None:
    recipe = load_recipe("digits_micro")
    recorded = json.loads(json.dumps({"recipe": flat(recipe)}))
    refuse_other_recipe(Path("run"), recorded, recipe)
    del recorded["recipe"]["augment.treated_by"]
    refuse_other_recipe(Path("run"), recorded, recipe)
    other = replace(recipe, augment=replace(recipe.augment, treated_by="device"))
    with pytest.raises(TrainingError, match=r"recipe\.augment\.treated_by: workers then, device now"):
        refuse_other_recipe(Path("run"), recorded, other)
    del recorded["recipe"]["optim.lr"]  # no default is that of this recipe
    with pytest.raises(TrainingError, match=r"recipe\.optim\.lr: "):
        refuse_other_recipe(Path("run"), recorded, recipe)
