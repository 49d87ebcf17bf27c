"""Who approves a model signs it: keys that are made and refused, and what is signed when."""

import hashlib
import io
import json
import zipfile
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from edge import signature as device
from edge.files import BrokenPackage
from lab import cli, signing
from lab.errors import LabError

PEM = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)


def zipped(**files: bytes) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return whole.getvalue()


class Stack:
    """A stack whose bucket holds one release."""

    def __init__(self, package: bytes) -> None:
        self.package = package
        files = {signing.ARTIFACT: hashlib.sha256(package).hexdigest()}
        self.manifest: dict[str, Any] = {"version": "1.0.7", "model_sha256": "0" * 64, "files": files}

    def __getitem__(self, name: str) -> str:
        return {"DataBucket": "data"}[name]

    def client(self, service: str) -> "Stack":
        assert service == "s3"
        return self

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        held = {"manifest.json": json.dumps(self.manifest).encode(), signing.ARTIFACT: self.package}
        name = Key.removeprefix("releases/1.0.7/")
        if name not in held:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "there is no such key"}}, "GetObject")
        return {"Body": io.BytesIO(held[name])}

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    signing.make(tmp_path / "key.pem")
    return tmp_path / "key.pem"


def test_a_device_takes_what_the_printed_key_signed_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, package = tmp_path / "key.pem", tmp_path / "model.zip"
    assert cli.main(["key", "new", str(file)]) == 0
    public = b64decode(capsys.readouterr().out.strip().removeprefix('public_key = "').removesuffix('"'))
    assert file.stat().st_mode & 0o777 == 0o600
    package.write_bytes(zipped(model_json=b"{}"))
    assert cli.main(["key", "sign", str(file), str(package)]) == 0
    (tmp_path / "model.json").write_bytes(b"{}")
    (tmp_path / "model.sig").write_bytes(b64decode(capsys.readouterr().out))
    device.check(tmp_path, public)
    (tmp_path / "model.json").write_bytes(b"{ }")
    with pytest.raises(BrokenPackage, match=r"is not of this model\.json"):
        device.check(tmp_path, public)


def test_a_key_that_is_there_is_never_written_over(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = key.read_bytes()
    assert cli.main(["key", "new", str(key)]) == 1
    assert "is there already; it stays as it is" in capsys.readouterr().err
    assert key.read_bytes() == before


def test_a_key_goes_only_into_a_folder_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot be written: No such file or directory"):
        signing.make(tmp_path / "nowhere" / "key.pem")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"secret", "holds no private key in PEM without a password"),
        (
            ed25519.Ed25519PrivateKey.generate().private_bytes(*PEM, serialization.BestAvailableEncryption(b"word")),
            "holds no private key in PEM without a password",
        ),
        (
            ec.generate_private_key(ec.SECP256R1()).private_bytes(*PEM, serialization.NoEncryption()),
            "another kind than Ed25519",
        ),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_is_no_such_key_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(LabError, match=said) as refused:
        signing.read(tmp_path / "key.pem")
    assert refused.value.hint == "make one with lab key new FILE"


def test_what_is_no_package_is_not_signed(key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, content in enumerate((b"no zip", zipped(other=b"{}"))):
        (tmp_path / f"{number}.zip").write_bytes(content)
        assert cli.main(["key", "sign", str(key), str(tmp_path / f"{number}.zip")]) == 1
        assert "this is no model package" in capsys.readouterr().err


def test_the_key_and_the_table_must_go_together(key: Path, tmp_path: Path) -> None:
    asks = {"edge": {"public_key": signing.public(signing.read(key))}}
    other = tmp_path / "other.pem"
    signing.make(other)
    assert signing.asked({}, None) is None
    assert signing.asked(asks, key) is not None
    for settings, file, said in (
        (asks, None, "devices take signed models only"),
        ({"edge": {"public_key": ""}}, key, "no device would look at the signature"),
        (asks, other, "is the private half of another key"),
    ):
        with pytest.raises(LabError, match=said):
            signing.asked(settings, file)


def test_only_what_was_registered_is_signed(key: Path) -> None:
    private = signing.read(key)
    stack: Any = Stack(zipped(model_json=b"{}"))
    digest = stack.digest
    private.public_key().verify(b64decode(signing.of_release(stack, "1.0.7", digest, private)), b"{}")
    for given, said in (("0" * 64, "are not those that were registered"), ("", "names no digest")):
        with pytest.raises(LabError, match=said):
            signing.of_release(stack, "1.0.7", given, private)
    stack.package = zipped(model_json=b"{ }")
    with pytest.raises(LabError, match="are not those that were registered; nothing was signed"):
        signing.of_release(stack, "1.0.7", digest, private)


def test_what_is_missing_or_no_manifest_is_said_in_a_line(key: Path) -> None:
    private, stack = signing.read(key), Stack(zipped(model_json=b"{}"))
    stack.manifest = {"version": "1.0.7"}
    with pytest.raises(LabError, match="this is no release's manifest"):
        signing.of_release(stack, "1.0.7", "0" * 64, private)  # type: ignore[arg-type]
    with pytest.raises(
        LabError, match=r"s3://data/releases/1\.0\.8/manifest\.json cannot be read: there is no such key"
    ):
        signing.of_release(stack, "1.0.8", "0" * 64, private)  # type: ignore[arg-type]


def test_by_hand_too_the_manifest_and_its_digest_can_be_asked_for(
    key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = Stack(zipped(model_json=b"{}"))
    package, manifest = tmp_path / "model.zip", tmp_path / "manifest.json"
    package.write_bytes(stack.package)
    manifest.write_text(json.dumps(stack.manifest))
    words = ["key", "sign", str(key), str(package), "--manifest", str(manifest)]
    assert cli.main([*words, "--digest", stack.digest]) == 0
    assert len(b64decode(capsys.readouterr().out)) == 64
    assert cli.main([*words, "--digest", "0" * 64]) == 1
    assert cli.main(words) == 2
    assert "--manifest and --digest go together" in capsys.readouterr().err
