"""Every step can be launched on another machine: which one, if any, is decided in resources/, never here."""

# No postponed annotations: Dagster reads the type of the parameter that is added here.

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import dagster as dg

STEP_LAUNCHER = "step_launcher"


def launchable(compute: Callable[..., Any]) -> Callable[..., Any]:
    """The same step, asking for the resource `step_launcher`: Dagster looks at it, the step itself never does."""
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
    step.__signature__ = signature.replace(  # type: ignore[attr-defined]  # what inspect and Dagster read
        parameters=[*signature.parameters.values(), launcher]
    )
    return step
