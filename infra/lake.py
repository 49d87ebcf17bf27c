"""Where data lives and is curated, with key, buckets, run table and the Glue job."""

from __future__ import annotations

from aws_cdk import Aws, Duration, RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_glue as glue
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra import bundles, pins
from infra.config import Settings
from infra.naming import Names
from infra.permissions import Allow, role
from infra.staging import Staging, object_arn, uri

CURATED_FOREVER_NOT = Duration.days(180)
# What Glue 5.1 brings itself and what a Python wheel could not replace.
GLUE_OWN = ("pyspark", "boto3")


class Lake(Construct):
    """Buckets, table, catalogue and the ETL job."""

    def __init__(self, scope: Construct, id: str, *, settings: Settings, names: Names, staging: Staging) -> None:
        super().__init__(scope, id)
        self._names = names
        self._kept = RemovalPolicy.RETAIN if settings.keeps_data else RemovalPolicy.DESTROY
        self.key = self._key()
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
        self.etl = self._etl(settings, staging)

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
            actions=["s3:PutObject", "s3:AbortMultipartUpload"],
            on=[f"{self.data.bucket_arn}/{prefix}*" for prefix in prefixes],
            why="objects below a prefix are named by data set, run and release, which are not known at deployment",
        )

    def list_keys(self, *prefixes: str) -> Allow:
        """List keys below prefixes of the data bucket."""
        patterns = [f"{prefix}*" for prefix in prefixes]
        return Allow(actions=["s3:ListBucket"], on=[self.data.bucket_arn], when={"StringLike": {"s3:prefix": patterns}})

    def _key(self) -> kms.Key:
        key = kms.Key(
            self,
            "Key",
            alias=self._names.of("key"),
            description="Encrypts the lab's buckets, tables, logs and topics",
            enable_key_rotation=True,
            removal_policy=self._kept,
        )
        groups = [f"/aws/*/{self._names.prefix}-*", f"/{self._names.prefix}/*", "/aws-glue/*"]
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="LogGroupsOfTheLab",
                principals=[iam.ServicePrincipal(f"logs.{self._names.region}.amazonaws.com")],
                actions=["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:Describe*"],
                resources=["*"],
                conditions={
                    "ArnLike": {
                        "kms:EncryptionContext:aws:logs:arn": [
                            self._names.arn("logs", f"log-group:{group}") for group in groups
                        ]
                    }
                },
            )
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsAndBudgetToTheTopic",
                principals=[iam.ServicePrincipal(f"{name}.amazonaws.com") for name in ("cloudwatch", "budgets")],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            )
        )
        return key

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
        wheels = [pin for pin in pins.pins(staging.root, "glue") if pin.split("==")[0] not in GLUE_OWN]
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
                self.read("raw/", "curated/"),
                self.write("curated/"),
                Allow(
                    actions=["s3:DeleteObject"],
                    on=[f"{self.data.bucket_arn}/curated/*"],
                    why="Spark renames and drops its own temporary objects below curated/, whose names it chooses",
                ),
                self.list_keys("raw/", "curated/"),
                self.use_key(),
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
            command=glue.CfnJob.JobCommandProperty(name="glueetl", python_version="3", script_location=uri(script)),
            default_arguments={
                "--extra-py-files": uri(library),
                "--additional-python-modules": ",".join(wheels),
                "--enable-metrics": "true",
                "--enable-continuous-cloudwatch-log": "true",
                "--job-bookmark-option": "job-bookmark-disable",
            },
        )
        job.add_resource_dependency(encrypted)
        return job
