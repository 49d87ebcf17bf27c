"""The Ed25519 key with which a model's approver signs it for devices: made, read, used. edge/signature.py checks it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import LabError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from lab.stack import Stack

SIGNED = "model.json"  # holds the digest of every other file of a package
ARTIFACT = "edge-x86/model.zip"  # what the release flow brings to devices


def make(path: Path) -> str:
    """Writes a new private key as unencrypted PKCS #8 PEM, readable by its owner alone; gives its public half."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(text)
    except FileExistsError:
        raise LabError(f"{path} is there already; it stays as it is", "name another file for the key") from None
    except OSError as error:
        raise LabError(f"{path} cannot be written: {error.strerror}", "name a file in a folder that is there") from None
    return public(key)


def read(path: Path) -> Ed25519PrivateKey:
    """The private key in a PEM file. Raises LabError."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    mend = "make one with lab key new FILE"
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror}", mend) from None
    except (ValueError, TypeError):
        raise LabError(f"{path} holds no private key in PEM without a password", mend) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise LabError(f"{path} holds a key of another kind than Ed25519", mend)
    return key


def public(key: Ed25519PrivateKey) -> str:
    """Its public half as `[edge] public_key` has it: 32 bytes in base64."""
    return b64encode(key.public_key().public_bytes_raw()).decode()


def signature(key: Ed25519PrivateKey, package: bytes) -> str:
    """64 bytes in base64, of the model.json in a package's zip. Raises LabError."""
    try:
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            return b64encode(key.sign(archive.read(SIGNED))).decode()
    except (zipfile.BadZipFile, KeyError):
        raise LabError(f"this is no model package: a zip with {SIGNED}", "a run leaves one below release/") from None


def asked(settings: Mapping[str, Any], path: Path | None) -> Ed25519PrivateKey | None:
    """The key to sign a release with, None where `[edge]` names none. Raises LabError where file and table differ."""
    wanted = (settings.get("edge") or {}).get("public_key", "")
    if path is None and wanted:
        raise LabError("devices take signed models only: [edge] names a public_key", "add --sign FILE, its private key")
    if path is None:
        return None
    key = read(path)
    if not wanted:
        line = f'public_key = "{public(key)}"'
        raise LabError(
            "no device would look at the signature: the stack's [edge] names no public_key",
            f"in lab.toml: {line}; the next lab run brings it to the stack",
        )
    if public(key) != wanted:
        raise LabError(
            f"{path} is the private half of another key than [edge] public_key", "sign with the one it names"
        )
    return key


def check(manifest: bytes, package: bytes, digest: str) -> None:
    """Raises LabError unless a package's zip is the one in the release that a model package names by its digest."""
    if not digest:
        raise LabError("the model package names no digest of its release's files", "run the flow once more")
    try:
        release = json.loads(manifest)
        # As pipelines/functions/registry.py has it: the digest of all that a release is.
        known = {name: release[name] for name in ("version", "model_sha256", "files")}
        wanted = release["files"].get(ARTIFACT)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LabError("this is no release's manifest", "it lies beside the release's files: manifest.json") from None
    registered = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest() == digest
    if not registered or wanted != hashlib.sha256(package).hexdigest():
        raise LabError(
            "the release's files are not those that were registered; nothing was signed",
            "somebody changed them since; the bucket keeps what was there before: aws s3api list-object-versions",
        )


def of_release(stack: Stack, version: str, digest: str, key: Ed25519PrivateKey) -> str:
    """The signature of a version's edge package, once its bytes are those that were registered. Raises LabError."""
    manifest, package = (_fetched(stack, f"releases/{version}/{name}") for name in ("manifest.json", ARTIFACT))
    check(manifest, package, digest)
    return signature(key, package)


def _fetched(stack: Stack, name: str) -> bytes:
    from botocore.exceptions import ClientError

    bucket = stack["DataBucket"]
    try:
        body: bytes = stack.client("s3").get_object(Bucket=bucket, Key=name)["Body"].read()
    except ClientError as error:
        said = error.response["Error"].get("Message", "")
        remedy = "nothing was signed; the bucket keeps what was deleted: aws s3api list-object-versions"
        raise LabError(f"s3://{bucket}/{name} cannot be read: {said}", remedy) from None
    return body
