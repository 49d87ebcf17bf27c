"""Whether the package of a model was signed by the key that this device trusts.

The signature is Ed25519 (RFC 8032) over the bytes of `model.json`, which holds every other file's digest: so it covers
the whole package. It lies beside it as `model.sig`, 64 bytes. Nothing on a device or in the cloud can make one: who
approves a model signs it (lab/signing.py), and the stager writes what the component's recipe carries.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge.files import PACKAGE, SIGNATURE, BrokenPackage


def check(package: Path, public_key: bytes) -> None:
    """Raises BrokenPackage, reason `signature`, unless the owner of `public_key` signed the package."""
    try:
        signature = (package / SIGNATURE).read_bytes()
    except OSError as error:
        raise BrokenPackage("signature", f"this device takes signed models only, and {SIGNATURE} is missing") from error
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, (package / PACKAGE).read_bytes())
    except InvalidSignature as error:
        raise BrokenPackage("signature", f"{SIGNATURE} is not of this {PACKAGE} by the key that is trusted") from error
