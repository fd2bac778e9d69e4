"""Makes a step launchable on another machine; the deployment's resource `step_launcher` decides whether and where."""

# No postponed annotations: Dagster reads the type of the parameter that `launchable` adds.

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import dagster as dg

STEP_LAUNCHER = "step_launcher"


def launchable(compute: Callable[..., Any]) -> Callable[..., Any]:
    """Add the resource `step_launcher` to a step's parameters: Dagster uses it, the step itself ignores it."""
    signature = inspect.signature(compute)

    if inspect.isgeneratorfunction(compute):

        @wraps(compute)
        def generate(*arguments: Any, step_launcher: object, **named: Any) -> Iterator[Any]:  # noqa: ARG001
            yield from compute(*arguments, **named)

        step = generate
    else:

        @wraps(compute)
        def call(*arguments: Any, step_launcher: object, **named: Any) -> Any:  # noqa: ARG001
            return compute(*arguments, **named)

        step = call
    launcher = inspect.Parameter(STEP_LAUNCHER, inspect.Parameter.KEYWORD_ONLY, annotation=dg.ResourceParam[object])
    step.__signature__ = signature.replace(  # type: ignore[attr-defined]  # inspect and Dagster read it
        parameters=[*signature.parameters.values(), launcher]
    )
    return step
