"""Runs a Glue script on Spark and serves s3:// to its readers and writers.

    python -P lab/glue_spark.py SCRIPT [ARGUMENT …]

A path is read by laying out its objects in LAB_S3_MIRROR first (mirror.py). It is written there and uploaded when
Spark has finished, the parts before `_SUCCESS`, so that a reader never takes half a table for a whole one.
Covers: spark.read and df.write with a path (csv, json, orc, parquet, text, binaryFile, globs, modes, partitions),
the `path` column of binaryFile, input_file_name(), SparkContext's textFile, wholeTextFiles and binaryFiles.
Does not cover: GlueContext and DynamicFrame, tables of the Data Catalog, streaming, writeTo, saveAs…File of an RDD;
Spark answers `No FileSystem for scheme "s3"` or `Table not found` to these.
"""

from __future__ import annotations

import functools
import json
import os
import re
import runpy
import shutil
import sys
import traceback
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

READ = ("load", "csv", "json", "orc", "parquet", "text")
WRITE = ("save", "csv", "json", "orc", "parquet", "text")
CONTEXT = ("textFile", "wholeTextFiles", "binaryFiles")
# Where the argument `mode` stands after the path, for the writers that have one.
MODE_AT = {"save": 1, "csv": 0, "json": 0, "orc": 0, "parquet": 0}
SUCCESS = "_SUCCESS"
PARALLEL = 8
DOOR = "/moto-api/lab/mirror"
SECONDS = 300.0
_S3 = re.compile(r"s3[an]?://([^/]+)/?(.*)")
_GLOB = re.compile(r"[*?\[{]")


class Mirror:
    """A folder that holds the objects a job has read, at `<bucket>/<key>`."""

    def __init__(self, root: Path) -> None:
        import boto3
        from botocore.config import Config

        self.root = root
        self.s3: Any = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, max_pool_connections=16))
        self.tags: dict[tuple[str, str], dict[str, str]] = {}

    def bring(self, uri: str) -> str:
        """Lays out what `uri` names; the path that stands for it. AnalysisException when there is nothing."""
        bucket, key = _split(uri)
        top = _literal(key)
        had = self.tags.pop((bucket, top), {})
        found = self._ask(bucket, top, had)
        if not found:
            _fail(f"[PATH_NOT_FOUND] Path does not exist: {uri}.")
        self.tags[bucket, top] = found
        # What an earlier read brought and another writer has since removed.
        for path in (self.root / bucket / top).rglob("*"):
            if path.is_file() and path.relative_to(self.root / bucket).as_posix() not in found:
                path.unlink()
        return str(self.root / bucket / key)

    def _ask(self, bucket: str, key: str, have: dict[str, str]) -> dict[str, str]:
        """The engine's own door for whole prefixes: a request for each object would cost 8 ms of two processes."""
        asked = {"bucket": bucket, "key": key, "folder": str(self.root), "have": have}
        request = urllib.request.Request(os.environ["AWS_ENDPOINT_URL"] + DOOR, json.dumps(asked).encode())
        request.add_header("Content-Type", "application/json")
        request.add_header("X-Access-Key", os.environ["AWS_ACCESS_KEY_ID"])
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(request, timeout=SECONDS) as answer:
                objects: dict[str, str] = json.load(answer)["objects"]
                return objects
        except urllib.error.HTTPError as error:
            with error:
                raise OSError(f"s3://{bucket}/{key}: {error.read().decode('utf-8', 'replace')}") from None

    def send(self, folder: Path, uri: str, mode: str) -> None:
        """Uploads what Spark wrote into `folder`: parts, then _SUCCESS; `overwrite` drops what stood there."""
        bucket, key = _split(uri)
        prefix = key.rstrip("/") + "/"
        new = {prefix + path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if _is_data(path)}
        last = prefix + SUCCESS
        old = set(self._list(bucket, prefix)) if mode == "overwrite" else set()
        if last in old:
            self.s3.delete_object(Bucket=bucket, Key=last)

        def put(name: str) -> None:
            with new[name].open("rb") as body:
                self.s3.put_object(Bucket=bucket, Key=name, Body=body)

        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(put, [name for name in sorted(new) if name != last]))
        for name in sorted(old - set(new) - {last}):
            self.s3.delete_object(Bucket=bucket, Key=name)
        if last in new:
            put(last)

    def exists(self, uri: str) -> bool:
        bucket, key = _split(uri)
        found = self.s3.list_objects_v2(Bucket=bucket, Prefix=key.rstrip("/") + "/", MaxKeys=1)
        return bool(found.get("Contents"))

    def _list(self, bucket: str, prefix: str) -> Iterable[str]:
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            yield from (item["Key"] for item in page.get("Contents", []))


def _split(uri: str) -> tuple[str, str]:
    found = _S3.fullmatch(uri)
    assert found is not None
    return found[1], found[2]


def _literal(key: str) -> str:
    """The part of a key before its first pattern, cut at a slash."""
    found = _GLOB.search(key)
    return key if found is None else key[: key.rfind("/", 0, found.start()) + 1]


def _is_data(path: Path) -> bool:
    # The local file system writes a checksum beside each file, which S3's does not.
    return path.is_file() and not (path.name.startswith(".") and path.name.endswith(".crc"))


def _is_s3(path: Any) -> bool:
    return isinstance(path, str) and _S3.fullmatch(path) is not None


def _fail(message: str) -> None:
    from pyspark.errors import AnalysisException

    raise AnalysisException(message=message)


def serve_s3(mirror: Mirror) -> None:
    """Teaches Spark's readers and writers `s3://`."""
    from pyspark import SparkContext
    from pyspark.sql import functions
    from pyspark.sql.readwriter import DataFrameReader, DataFrameWriter

    for name in READ:
        setattr(DataFrameReader, name, _reading(getattr(DataFrameReader, name), name, mirror))
    for name in CONTEXT:
        setattr(SparkContext, name, _reading(getattr(SparkContext, name), name, mirror))
    for name in WRITE:
        setattr(DataFrameWriter, name, _writing(getattr(DataFrameWriter, name), name, mirror))
    for cls, name in ((DataFrameReader, "format"), (DataFrameWriter, "mode")):
        setattr(cls, name, _remembering(getattr(cls, name), name))
    plain = functions.input_file_name
    functions.input_file_name = lambda: functions.regexp_replace(
        plain(), f"^file:/*{re.escape(str(mirror.root))}/", "s3://"
    )


def _remembering(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    """`format` and `mode` only tell the JVM; what they were told is needed here too."""

    @functools.wraps(original)
    def call(self: Any, value: Any = None, **named: Any) -> Any:
        value = next(iter(named.values()), value)
        setattr(self, f"_lab_{name}", value)
        return original(self, value)

    return call


def _reading(original: Callable[..., Any], name: str, mirror: Mirror) -> Callable[..., Any]:
    def local(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(local(item) for item in value)
        return mirror.bring(value) if _is_s3(value) else value

    @functools.wraps(original)
    def call(self: Any, *args: Any, **named: Any) -> Any:
        here = {key: local(value) if key in ("path", "paths") else value for key, value in named.items()}
        first = len(args) if name == "parquet" else 1
        frame = original(self, *(local(value) for value in args[:first]), *args[first:], **here)
        kind = named.get("format") or (
            args[1] if name == "load" and len(args) > 1 else getattr(self, "_lab_format", "")
        )
        return _with_uris(frame, mirror) if name == "load" and str(kind).lower() == "binaryfile" else frame

    return call


def _with_uris(frame: Any, mirror: Mirror) -> Any:
    """The `path` column as it is in AWS."""
    from pyspark.sql import functions

    own = f"^file:/*{re.escape(str(mirror.root).lstrip('/'))}/"
    return frame.withColumn("path", functions.regexp_replace("path", own, "s3://"))


def _writing(original: Callable[..., Any], name: str, mirror: Mirror) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(self: Any, path: Any = None, *args: Any, **named: Any) -> Any:
        if not _is_s3(path):
            return original(self, path, *args, **named)
        at = MODE_AT.get(name, len(args))
        mode = (
            named.get("mode") or (args[at] if at < len(args) else None) or getattr(self, "_lab_mode", None) or "error"
        )
        mode = str(mode).lower()
        if mode in ("error", "errorifexists", "default", "ignore") and mirror.exists(path):
            if mode == "ignore":
                return None
            hint = 'Set mode as "overwrite" to overwrite the existing path.'
            _fail(f"[PATH_ALREADY_EXISTS] Path {path} already exists. {hint}")
        folder = mirror.root / ".written" / uuid.uuid4().hex
        try:
            original(self, str(folder), *args, **named)
            mirror.send(folder, path, mode)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return None

    return call


def run(script: str, arguments: list[str]) -> int:
    """Runs the script as __main__; its exit status. The reason of a failure is the last thing written."""
    from pyspark import SparkContext

    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    said = None
    rc = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as leaving:
        rc = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
        said = leaving.code if isinstance(leaving.code, str) else None
    except BaseException as error:
        rc = 1
        said = "".join(traceback.format_exception(type(error), error, _own_frames(error)))
    context = SparkContext._active_spark_context
    if context is not None:
        sys.stdout.write(f"Spark application {context.applicationId} on {context.master} ended\n")
        context.stop()
    if said:
        sys.stderr.write(said.rstrip() + "\n")
    return rc


def _own_frames(error: BaseException) -> Any:
    """The traceback from the script's own first frame on."""
    trace = error.__traceback__
    while (
        trace is not None
        and trace.tb_next is not None
        and trace.tb_frame.f_code.co_filename in (__file__, runpy.__file__)
    ):
        trace = trace.tb_next
    while trace is not None and trace.tb_next is not None and "runpy" in trace.tb_frame.f_code.co_filename:
        trace = trace.tb_next
    return trace


def main() -> int:
    import pyspark

    script, *arguments = sys.argv[1:]
    sys.stdout.write(f"Apache Spark {pyspark.__version__} (pyspark), Java from {os.environ['JAVA_HOME']}\n")
    serve_s3(Mirror(Path(os.environ["LAB_S3_MIRROR"])))
    return run(script, arguments)


if __name__ == "__main__":
    sys.exit(main())
