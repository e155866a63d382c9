"""Published trainings as YAML, and the language that they are written in; neither torch nor numpy is imported."""

__all__ = ["duration", "randaugment", "recipe", "recipe_file", "schema"]
