"""Where data lives and is curated, with buckets, run table and the Glue job."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aws_cdk import Aws, Duration, RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_glue as glue
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra import bundles, pins
from infra.config import Settings
from infra.images import Wheels
from infra.naming import Names
from infra.network import Network
from infra.permissions import Allow, role
from infra.staging import Staging, object_arn, uri

CURATED_FOREVER_NOT = Duration.days(180)
# What Glue 5.1 brings itself and what a Python wheel could not replace.
GLUE_OWN = ("pyspark", "boto3")


class Lake(Construct):
    """Buckets, table, catalogue and the ETL job."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        settings: Settings,
        names: Names,
        key: kms.IKey,
        network: Network,
        staging: Staging,
    ) -> None:
        super().__init__(scope, id)
        self._names, self.key, self._network = names, key, network
        self._kept = RemovalPolicy.RETAIN if settings.keeps_data else RemovalPolicy.DESTROY
        self.logs = self._log_bucket()
        self.data = self._bucket("Data", "data", self._data_lifecycle())
        self.artifacts = self._bucket("Artifacts", "artifacts", self._scratch_lifecycle())
        self._announce_objects(self.data)
        self.runs = self._table()
        self.database = glue.CfnDatabase(
            self,
            "Database",
            catalog_id=Aws.ACCOUNT_ID,
            database_input=glue.CfnDatabase.DatabaseInputProperty(
                name=names.of("lake").replace("-", "_"), description="Curated data of the lab, one folder per run"
            ),
        )
        self._pins = glue_pins(staging.root)
        self.etl = self._etl(settings, staging)

    def read_key(self) -> Allow:
        """Read what the lab's key encrypts."""
        return Allow(actions=["kms:Decrypt"], on=[self.key.key_arn])

    def use_key(self) -> Allow:
        """Read and write what the lab's key encrypts."""
        return Allow(actions=["kms:Decrypt", "kms:GenerateDataKey"], on=[self.key.key_arn])

    def read(self, *prefixes: str) -> Allow:
        """Read objects below prefixes of the data bucket."""
        return Allow(
            actions=["s3:GetObject"],
            on=[f"{self.data.bucket_arn}/{prefix}*" for prefix in prefixes],
            why="objects below a prefix are named by data set, run and release, which are not known at deployment",
        )

    def write(self, *prefixes: str) -> Allow:
        """Write objects below prefixes of the data bucket."""
        return Allow(
            actions=["s3:PutObject"],
            on=[f"{self.data.bucket_arn}/{prefix}*" for prefix in prefixes],
            why="objects below a prefix are named by data set, run and release, which are not known at deployment",
        )

    def upload(self, *prefixes: str) -> list[Allow]:
        """Write objects of any size: in parts, which are dropped when one fails."""
        whole = self.write(*prefixes)
        broken = "an upload in parts that fails is dropped; no run breaks one"
        return [whole, Allow(actions=["s3:AbortMultipartUpload"], on=whole.on, why=whole.why, unused=broken)]

    def list_keys(self, *prefixes: str) -> Allow:
        """List keys below prefixes of the data bucket."""
        patterns = [f"{prefix}*" for prefix in prefixes]
        return Allow(actions=["s3:ListBucket"], on=[self.data.bucket_arn], when={"StringLike": {"s3:prefix": patterns}})

    def _log_bucket(self) -> s3.Bucket:
        """S3 delivers access logs only to a bucket whose default encryption is S3's own key."""
        return s3.Bucket(
            self,
            "Logs",
            bucket_name=self._names.bucket("logs"),
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="expire",
                    expiration=Duration.days(90),
                    noncurrent_version_expiration=Duration.days(7),
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                )
            ],
            removal_policy=self._kept,
        )

    def _bucket(self, id: str, holds: str, lifecycle: list[s3.LifecycleRule]) -> s3.Bucket:
        return s3.Bucket(
            self,
            id,
            bucket_name=self._names.bucket(holds),
            encryption=s3.BucketEncryption.KMS,
            encryption_key=self.key,
            bucket_key_enabled=True,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            server_access_logs_bucket=self.logs,
            server_access_logs_prefix=f"{holds}/",
            lifecycle_rules=lifecycle,
            removal_policy=self._kept,
        )

    def _data_lifecycle(self) -> list[s3.LifecycleRule]:
        """Raw data and releases stay; what a run can make again goes."""
        return [
            s3.LifecycleRule(id="curated", prefix="curated/", expiration=CURATED_FOREVER_NOT),
            s3.LifecycleRule(id="exports", prefix="exports/", expiration=CURATED_FOREVER_NOT),
            s3.LifecycleRule(id="telemetry", prefix="telemetry/", expiration=CURATED_FOREVER_NOT),
            s3.LifecycleRule(id="capture", prefix="capture/", expiration=CURATED_FOREVER_NOT),
            s3.LifecycleRule(
                id="tidy",
                noncurrent_version_expiration=Duration.days(30),
                abort_incomplete_multipart_upload_after=Duration.days(1),
            ),
        ]

    def _scratch_lifecycle(self) -> list[s3.LifecycleRule]:
        return [
            s3.LifecycleRule(id="scratch", prefix="scratch/", expiration=Duration.days(7)),
            s3.LifecycleRule(
                id="tidy",
                noncurrent_version_expiration=Duration.days(7),
                abort_incomplete_multipart_upload_after=Duration.days(1),
            ),
        ]

    def _announce_objects(self, bucket: s3.Bucket) -> None:
        """The property itself: `event_bridge_enabled=True` would add a custom resource with a function of its own."""
        resource = bucket.node.default_child
        assert isinstance(resource, s3.CfnBucket)
        resource.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(event_bridge_enabled=True)
        )

    def _table(self) -> dynamodb.Table:
        """One row per claimed input. Not TableV2, whose resource type is a global table of one region."""
        return dynamodb.Table(
            self,
            "Runs",
            table_name=self._names.of("runs"),
            partition_key=dynamodb.Attribute(name="claim", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
            encryption_key=self.key,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            removal_policy=self._kept,
        )

    def _etl(self, settings: Settings, staging: Staging) -> glue.CfnJob:
        script = staging.asset(self, "EtlScript", staging.script(bundles.ETL))
        library = staging.asset(self, "EtlLibrary", staging.archive(bundles.ETL))
        names = self._names
        encrypted = glue.CfnSecurityConfiguration(
            self,
            "EtlSecurity",
            name=names.of("etl"),
            encryption_configuration=glue.CfnSecurityConfiguration.EncryptionConfigurationProperty(
                cloud_watch_encryption=glue.CfnSecurityConfiguration.CloudWatchEncryptionProperty(
                    cloud_watch_encryption_mode="SSE-KMS", kms_key_arn=self.key.key_arn
                ),
                job_bookmarks_encryption=glue.CfnSecurityConfiguration.JobBookmarksEncryptionProperty(
                    job_bookmarks_encryption_mode="CSE-KMS", kms_key_arn=self.key.key_arn
                ),
                s3_encryptions=[
                    glue.CfnSecurityConfiguration.S3EncryptionProperty(
                        s3_encryption_mode="SSE-KMS", kms_key_arn=self.key.key_arn
                    )
                ],
            ),
        )
        etl_role = role(
            self,
            "EtlRole",
            trusts=iam.ServicePrincipal("glue.amazonaws.com"),
            description="Reads raw data, writes curated data",
            allows=[
                Allow(actions=["s3:GetObject"], on=[object_arn(script), object_arn(library)]),
                self.read("raw/"),
                *self.upload("curated/"),
                Allow(
                    actions=["s3:DeleteObject", "s3:GetObject"],
                    on=[f"{self.data.bucket_arn}/curated/*"],
                    why="Spark renames and drops its own temporary objects below curated/, whose names it chooses",
                    unused="Spark on the desk writes to a local disk and uploads; on Glue its committer works on S3",
                ),
                self.list_keys("raw/", "curated/"),
                self.use_key(),
                *self._within(),
                Allow(
                    actions=[
                        "logs:CreateLogGroup",
                        "logs:CreateLogStream",
                        "logs:PutLogEvents",
                        "logs:AssociateKmsKey",
                    ],
                    on=[names.log_group_arn("/aws-glue/jobs/*")],
                    why="Glue derives its log groups' names from role and security configuration",
                ),
                Allow(
                    actions=["cloudwatch:PutMetricData"],
                    on=["*"],
                    when={"StringEquals": {"cloudwatch:namespace": "Glue"}},
                    why="PutMetricData has no resource; the namespace is fixed by condition",
                ),
            ],
        )
        connection = self._connection()
        job = glue.CfnJob(
            self,
            "Etl",
            name=names.of("etl"),
            description="Raw objects to curated Parquet, with contract and data report",
            role=etl_role.role_arn,
            glue_version="5.1",
            worker_type="G.1X",
            number_of_workers=settings.train.glue_workers,
            timeout=settings.train.max_minutes,
            max_retries=0,
            execution_property=glue.CfnJob.ExecutionPropertyProperty(max_concurrent_runs=3),
            security_configuration=encrypted.name,
            connections=None
            if connection is None
            else glue.CfnJob.ConnectionsListProperty(connections=[names.of("etl")]),
            command=glue.CfnJob.JobCommandProperty(name="glueetl", python_version="3", script_location=uri(script)),
            default_arguments={
                "--extra-py-files": uri(library),
                **self._modules(),
                "--enable-metrics": "true",
                "--enable-continuous-cloudwatch-log": "true",
                "--job-bookmark-option": "job-bookmark-disable",
            },
        )
        job.add_resource_dependency(encrypted)
        if connection is not None:
            job.add_resource_dependency(connection)
        return job

    @property
    def wheel_pins(self) -> str:
        """What the build of the job image downloads for Glue, where no job reaches a package index; else empty."""
        return self._pins if self._network.is_private else ""

    @property
    def wheels(self) -> Wheels | None:
        """Where it puts them."""
        if not self.wheel_pins:
            return None
        digest = hashlib.sha256(self.wheel_pins.encode()).hexdigest()[:16]
        return Wheels(self.artifacts, f"wheels/{digest}.gluewheels.zip")

    def _modules(self) -> dict[str, str]:
        """Source: AWS Glue developer guide, using Python libraries, zip of wheels."""
        if self.wheels is None:
            return {"--additional-python-modules": ",".join(self._pins.split())}
        return {
            "--additional-python-modules": self.wheels.uri,
            "--python-modules-installer-option": "--no-index",
        }

    def _within(self) -> list[Allow]:
        """What the job needs besides in subnets of ours: its wheels, its connection, its interfaces."""
        if self.wheels is None:
            return []
        arn = self._names.arn
        return [
            Allow(actions=["s3:GetObject"], on=[f"{self.artifacts.bucket_arn}/{self.wheels.key}"]),
            Allow(
                actions=["glue:GetConnection"],
                on=[arn("glue", "catalog"), arn("glue", f"connection/{self._names.of('etl')}")],
            ),
            *self._network.attach(),
        ]

    def _connection(self) -> glue.CfnConnection | None:
        """A job stands where its connection says: in the first subnet."""
        network = self._network
        if not network.is_private:
            return None
        return glue.CfnConnection(
            self,
            "EtlNetwork",
            catalog_id=Aws.ACCOUNT_ID,
            connection_input=glue.CfnConnection.ConnectionInputProperty(
                name=self._names.of("etl"),
                connection_type="NETWORK",
                physical_connection_requirements=glue.CfnConnection.PhysicalConnectionRequirementsProperty(
                    availability_zone=network.zone, subnet_id=network.subnets[0], security_group_id_list=[network.group]
                ),
            ),
        )


def glue_pins(root: Path) -> str:
    """What Glue must install for the job, as the text of a `requirements.txt`."""
    wanted = [pin for pin in pins.pins(root, "glue") if pin.split("==")[0] not in GLUE_OWN]
    return "".join(f"{pin}\n" for pin in wanted)
