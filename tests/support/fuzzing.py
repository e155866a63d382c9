"""Requests that an OpenAPI document allows, and some that it does not, made up by schemathesis."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable


def fuzz(address: str, cases: int) -> tuple[int, list[str]]:
    """Ask every operation.

    Args:
        address: of the document.
        cases: requests per operation, half of them invalid.

    Returns:
        How many requests were made, and what was wrong with their answers: a status of 500 or more (but for the 503 of
        a server that is busy), or an answer that the document does not have.
    """
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import load_all_checks

    load_all_checks()
    counted, failures = [0], []
    for result in schemathesis.openapi.from_url(address).get_all_operations():
        operation: Any = result.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            strategy = operation.as_strategy(generation_mode=mode)
            failures += _fuzz(operation, strategy, max(1, cases // 2), counted)
    return counted[0], failures


def _fuzz(operation: Any, strategy: Any, cases: int, counted: list[int]) -> list[str]:
    from schemathesis.checks import CHECKS

    failures: list[str] = []
    holds = CHECKS.get_by_names(["content_type_conformance", "response_schema_conformance"])
    documented = operation.definition.raw["responses"]

    @given(case=strategy)
    @settings(
        max_examples=cases, deadline=None, database=None, derandomize=True,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def ask(case: Any) -> None:
        counted[0] += 1
        answer = case.call(timeout=60)
        if answer.status_code >= 500:
            failures.append(f"{case.method} {case.path}: {answer.status_code}")
        elif str(answer.status_code) in documented:
            case.validate_response(answer, checks=holds)

    try:
        ask()
    except Unsatisfiable:
        pass  # nothing about this operation can be wrong
    except Exception as error:
        failures.append(f"{operation.label}: {type(error).__name__}: {str(error)[:500]}")
    return failures
