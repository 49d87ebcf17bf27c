"""What the flow writes on a model package, and how the functions read it back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import MISSING, dataclass, fields
from typing import Any


class RegistryError(Exception):
    """A model package is not what the flow registers; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Registration:
    """The customer metadata of one package.

    `run` is the flow's execution, `version` the release's, `checkpoint` the S3 URI of the training job's model.tar.gz,
    `manifest` that of the release's manifest.json, `digest` what `digest_of` gives for that ("" where the package is
    older than digests): who approves the package approves these files and no others. `signature` is what the approver
    adds for devices that ask for one: base64, of the edge package's model.json. CustomerMetadataProperties takes 256
    characters of letters, digits and `_.:/=+-@` for each.
    """

    run: str
    version: str
    checkpoint: str
    manifest: str
    digest: str = ""
    signature: str = ""

    def metadata(self) -> dict[str, str]:
        """As CustomerMetadataProperties."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name))}

    @classmethod
    def of(cls, package: dict[str, Any]) -> Registration:
        """Of a package as DescribeModelPackage returns it. Raises RegistryError."""
        found = package.get("CustomerMetadataProperties", {})
        missing = [field.name for field in fields(cls) if field.default is MISSING and not found.get(field.name)]
        if missing:
            arn = package.get("ModelPackageArn", "the model package")
            raise RegistryError(f"{arn} was not registered by the flow: its metadata has no '{missing[0]}'")
        return cls(**{field.name: found[field.name] for field in fields(cls) if field.name in found})

    def below_release(self, path: str) -> str:
        """The S3 URI of one artefact of this release."""
        return f"{self.manifest.rpartition('/')[0]}/{path}"


def digest_of(manifest: dict[str, Any]) -> str:
    """Hex SHA-256 of what a release is: its version, its weights, every file by its own digest."""
    known = {key: manifest[key] for key in ("version", "model_sha256", "files")}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
