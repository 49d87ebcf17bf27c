"""What the flow writes on a model package, and how the functions read it back."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from pipelines.functions import documents


class RegistryError(Exception):
    """A model package is not what the flow registers; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Registration:
    """The customer metadata of one package.

    `checkpoint` is the S3 URI of the training job's model.tar.gz, `manifest` that of the release's manifest.json,
    `claim` the key of the run's row in the table.
    """

    run: str
    version: str
    checkpoint: str
    manifest: str
    claim: str

    def metadata(self) -> dict[str, str]:
        """As CustomerMetadataProperties, whose values admit no `#` and are never empty."""
        return {field.name: getattr(self, field.name).replace("#", "/") for field in fields(self)}

    @classmethod
    def of(cls, package: dict[str, Any]) -> Registration:
        """Of a package as DescribeModelPackage returns it. Raises RegistryError."""
        found = package.get("CustomerMetadataProperties", {})
        missing = [field.name for field in fields(cls) if not found.get(field.name)]
        if missing:
            arn = package.get("ModelPackageArn", "the model package")
            raise RegistryError(f"{arn} was not registered by the flow: its metadata has no '{missing[0]}'")
        values = {field.name: found[field.name] for field in fields(cls)}
        return cls(**{**values, "claim": values["claim"].replace("/", "#")})

    @property
    def bucket(self) -> str:
        """The data bucket."""
        return documents.split(self.manifest)[0]

    def below_release(self, path: str) -> str:
        """The S3 URI of one artefact of this release."""
        return f"{self.manifest.rpartition('/')[0]}/{path}"
