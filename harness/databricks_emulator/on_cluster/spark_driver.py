"""The cluster's JVM: starts Spark with Delta, says where its gateway is, cancels jobs on request, ends with its stdin.

It lives as long as the cluster, so that a step finds a warm Spark. The catalog is in memory; tables that an earlier
JVM left in the warehouse are registered again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    conf = SparkConf(loadDefaults=False)
    for name, value in settings.items():
        conf.set(name, value)
    gateway = launch_gateway(conf)
    spark = SparkSession(SparkContext(gateway=gateway, conf=conf))
    for folder in sorted(Path(settings["spark.sql.warehouse.dir"]).glob("*.db/*/_delta_log")):
        schema, table = folder.parent.parent.stem, folder.parent.name
        spark.sql(f"CREATE SCHEMA IF NOT EXISTS `{schema}`")
        spark.sql(f"CREATE TABLE IF NOT EXISTS `{schema}`.`{table}` USING delta LOCATION '{folder.parent}'")
    to = gateway.java_parameters
    told = {"port": to.port, "secret": to.auth_token}
    if "spark.plugins" in settings:
        # Of serverless compute: tasks come by Spark Connect.
        services = gateway.jvm.org.apache.spark.sql.connect.service
        told["connect"] = getattr(getattr(services, "SparkConnectService$"), "MODULE$").localPort()
    print(json.dumps(told), flush=True)
    for order in sys.stdin:
        if order.strip() == "cancel":
            spark.sparkContext.cancelAllJobs()
            print("cancelled", flush=True)


if __name__ == "__main__":
    main()
