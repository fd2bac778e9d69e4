"""Environment variables of a step, in the form that the main script of dagster-databricks expects on the cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emaps_dagster.electricity_maps.recorded import Recording


@dataclass(frozen=True)
class Exported:
    """The variables that are exported before the step's code is imported.

    To unpickle the library's own class a cluster would have to import the library with Databricks' SDK: a third of a
    short step's Python time. The main script only calls `setup`.

    Attributes:
        plain: values by name.
        secrets: `name`, `scope` and `key` of each variable from Databricks Secrets; never a value.
        recordings: answers of the API that were fetched already, by the bronze table.
    """

    plain: Mapping[str, str]
    secrets: Sequence[Mapping[str, str]]
    recordings: Mapping[str, Recording] = field(default_factory=dict)

    def setup(self, dbutils: Any, spark: Any) -> None:
        """Export them, and keep the globals for the step.

        Args:
            dbutils: the task's global; None for one that is not there.
            spark: likewise.
        """
        # Imported on the cluster only, where the package lies beside this file by now.
        from emaps_dagster.lakehouse.databricks_task import give, task_utilities

        os.environ.update(self.plain)
        give(spark, dbutils)
        if self.recordings:
            from emaps_dagster.electricity_maps import recorded

            recorded.give(self.recordings)
        for secret in self.secrets:
            name, scope, key = (secret[part] for part in ("name", "scope", "key"))
            print(f"Exporting {name} from Databricks secret {key}, scope {scope}")  # noqa: T201 - a step's own output
            os.environ[name] = task_utilities().secrets.get(scope=scope, key=key)
