"""dagster-pyspark's resource, and one of its shape where it cannot be installed.

Serverless compute of Databricks has Databricks Connect, over which dagster-pyspark would install pyspark itself.
"""

# No postponed annotations: Dagster reads the field types of a resource when the class is defined.

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import PrivateAttr

if TYPE_CHECKING:
    from dagster_pyspark import PySparkResource
else:
    try:
        from dagster_pyspark import PySparkResource
    except ModuleNotFoundError:

        class PySparkResource(dg.ConfigurableResource):
            """A Spark session; subclasses set it up."""

            spark_config: dict[str, Any]
            _spark_session: Any = PrivateAttr(default=None)

            @property
            def spark_session(self) -> Any:
                return self._spark_session


__all__ = ["PySparkResource"]
