"""Training: recipes, the data they see, the loop that follows them, exact to resume. Needs `weevit[train]`, but for
recipes themselves: `recipe`, `duration` and `schema` import neither torch nor numpy.
"""

__all__ = ["augment", "baseline", "finetune", "loop", "recipe", "recipe_file", "results", "schema", "setup", "watch"]
