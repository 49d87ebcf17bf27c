"""What the flow writes on a model package, and how the functions read it back."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


class RegistryError(Exception):
    """A model package is not what the flow registers; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Registration:
    """The customer metadata of one package.

    `run` is the flow's execution, `version` the release's, `checkpoint` the S3 URI of the training job's model.tar.gz,
    `manifest` that of the release's manifest.json. CustomerMetadataProperties takes 256 characters of letters, digits
    and `_.:/=+-@` for each.
    """

    run: str
    version: str
    checkpoint: str
    manifest: str

    def metadata(self) -> dict[str, str]:
        """As CustomerMetadataProperties."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of(cls, package: dict[str, Any]) -> Registration:
        """Of a package as DescribeModelPackage returns it. Raises RegistryError."""
        found = package.get("CustomerMetadataProperties", {})
        missing = [field.name for field in fields(cls) if not found.get(field.name)]
        if missing:
            arn = package.get("ModelPackageArn", "the model package")
            raise RegistryError(f"{arn} was not registered by the flow: its metadata has no '{missing[0]}'")
        return cls(**{field.name: found[field.name] for field in fields(cls)})

    def below_release(self, path: str) -> str:
        """The S3 URI of one artefact of this release."""
        return f"{self.manifest.rpartition('/')[0]}/{path}"
