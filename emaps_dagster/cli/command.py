"""`emaps`: Dagster's command with the home of this project, and a short form for the hours of a range.

    emaps hours 2026-11-01 2026-11-24     the hourly job over [start, end), in one run
    emaps hours 2026-11-24T20:00Z         one hour
    emaps dev -w workspace.yaml           anything else is Dagster's: the same as `dagster dev -w workspace.yaml`

Dagster's home is DAGSTER_HOME, or else .dagster in this folder, created with its dagster.yaml if it is missing.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import warnings
from pathlib import Path

from emaps_dagster.cli.home import HERE, prepare
from emaps_dagster.contracts.errors import EmapsError

_HOURS = "hours"


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in {"-h", "--help"}:
        sys.exit(__doc__)
    if arguments[0] == _HOURS:
        try:
            arguments = _job_of(arguments[1:])
        except EmapsError as error:
            sys.exit(f"emaps {_HOURS}: {error}")
    if not os.environ.get("DAGSTER_HOME"):
        os.environ["DAGSTER_HOME"] = str(prepare(Path(HERE)))
    sys.argv = ["dagster", *arguments]
    runpy.run_module("dagster", run_name="__main__", alter_sys=True)


def _job_of(bounds: list[str]) -> list[str]:
    """The arguments of `dagster` for the hourly job over these hours.

    Raises:
        EmapsError: the bounds are no hours.
    """
    # Imported late: Dagster takes half a second to import.
    import dagster as dg

    from emaps_dagster.contracts.feature_query import hours_between
    from emaps_dagster.contracts.windows import HOUR, Window
    from emaps_dagster.defs.instance.runs import tags_of
    from emaps_dagster.defs.names import HOURLY

    # `dagster job execute` recommends a command that takes no range of hours.
    warnings.filterwarnings("ignore", category=dg.SupersessionWarning)
    if len(bounds) not in {1, 2}:
        raise EmapsError(f"{len(bounds)} times are given; give the start and the end of a range, or one hour.")
    if len(bounds) == 2:
        window = hours_between(*bounds)
    else:
        hour = hours_between(bounds[0], "2199-12-31").start
        window = Window(hour, hour + HOUR)
    tags = json.dumps(tags_of(window))
    return ["job", "execute", "-m", "emaps_dagster.definitions", "-j", HOURLY, "--tags", tags]


if __name__ == "__main__":
    main()
