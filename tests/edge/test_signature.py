"""Only what the trusted key signed may serve, where a key is given."""

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge import signature, stager
from edge.files import BrokenPackage
from edge.settings import Settings, SettingsError
from edge.switch import Event, Switch

Make = Callable[..., Path]


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def refused() -> Event:
    raise AssertionError("nothing happened")


def sign(folder: Path, key: Ed25519PrivateKey) -> None:
    (folder / "model.sig").write_bytes(key.sign((folder / "model.json").read_bytes()))


def test_a_signed_package_is_taken_and_a_tampered_or_unsigned_one_refused(
    package: Make, key: Ed25519PrivateKey
) -> None:
    folder = package()
    with pytest.raises(BrokenPackage, match=r"signed models only, and model.sig is missing"):
        signature.check(folder, public(key))
    sign(folder, key)
    signature.check(folder, public(key))
    (folder / "model.json").write_text((folder / "model.json").read_text() + " ")
    with pytest.raises(BrokenPackage, match=r"not of this model\.json") as refused:
        signature.check(folder, public(key))
    assert refused.value.reason == "signature"


def test_the_gate_refuses_what_another_key_signed(package: Make, key: Ed25519PrivateKey, tmp_path: Path) -> None:
    work, store = tmp_path / "work", tmp_path / "store"
    work.mkdir()
    held = Switch(work, threads=1, key=public(key))
    good, bad = package("1.0.1", seed=1), package("1.0.2", seed=2)
    sign(good, key)
    sign(bad, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    stager.stage(good, "1.0.1", store)
    swapped = held.step(store)
    stager.stage(bad, "1.0.2", store)
    refused = held.step(store)
    assert swapped is not None and swapped.kind == "swap"
    assert refused is not None and (refused.kind, refused.reason) == ("reject", "signature")
    assert held.current is not None and held.current.version == "1.0.1"


def test_what_was_refused_unsigned_is_taken_once_it_is_signed(
    package: Make, key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    work, store = tmp_path / "work", tmp_path / "store"
    work.mkdir()
    held, model = Switch(work, threads=1, key=public(key)), package("1.0.1", seed=1)
    stager.stage(model, "1.0.1", store)
    refused = held.step(store)
    assert refused is not None and (refused.kind, refused.reason) == ("reject", "signature")
    signed = b64encode(key.sign((model / "model.json").read_bytes())).decode()
    name, staged = stager.stage(model, "1.0.1", store, signed)
    taken = held.step(store)
    assert taken is not None and taken.kind == "swap"
    assert (stager.wait(work / "verdicts" / "1.0.1", name, 1, staged) or {})["accepted"]


def test_a_wrong_key_loses_nothing_once_it_is_put_right(package: Make, key: Ed25519PrivateKey, tmp_path: Path) -> None:
    work, store, model = tmp_path / "work", tmp_path / "store", package("1.0.1", seed=1)
    work.mkdir()
    stager.stage(model, "1.0.1", store, b64encode(key.sign((model / "model.json").read_bytes())).decode())
    assert (Switch(work, threads=1, key=public(key)).step(store) or refused()).kind == "swap"
    other = Switch(work, threads=1, key=bytes(32))
    assert other.restore() is None
    assert (other.step(store) or refused()).reason == "signature" and other.step(store) is None, "it is said once"
    other.key = public(key)
    assert (other.step(store) or refused()).kind == "swap"
    again = Switch(work, threads=1, key=public(key))
    assert (again.restore() or refused()).kind == "restore"


def test_what_serves_when_a_key_comes_goes_on_and_is_still_there_to_go_back_to(
    package: Make, key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    work, store = tmp_path / "work", tmp_path / "store"
    work.mkdir()
    held, unsigned, signed = Switch(work, threads=1), package("1.0.1", seed=1), package("1.0.2", seed=2)
    stager.stage(unsigned, "1.0.1", store)
    assert held.step(store) is not None
    held.key = public(key)
    held.reload()
    assert held.current is not None and held.current.version == "1.0.1"
    stager.stage(signed, "1.0.2", store, b64encode(key.sign((signed / "model.json").read_bytes())).decode())
    assert (held.step(store) or refused()).kind == "swap"
    assert (held.revert("errors") or refused()).kind == "revert"
    assert held.current.version == "1.0.1"


def test_the_model_that_serves_is_taken_under_another_version_only_if_it_is_signed(
    package: Make, key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    work, store, model = tmp_path / "work", tmp_path / "store", package("1.0.1", seed=1)
    work.mkdir()
    held = Switch(work, threads=1)
    stager.stage(model, "1.0.1", store)
    assert held.step(store) is not None
    held.key = public(key)
    stager.stage(model, "1.0.2", store)
    assert (held.step(store) or refused()).reason == "signature"
    stager.stage(model, "1.0.3", store, b64encode(key.sign((model / "model.json").read_bytes())).decode())
    assert held.step(store) is None and held.current is not None and held.current.version == "1.0.3"
    assert (Switch(work, threads=1, key=public(key)).restore() or refused()).kind == "restore", "its copy is signed now"


def test_a_key_is_32_bytes_in_base64(key: Ed25519PrivateKey) -> None:
    assert Settings(public_key=b64encode(public(key)).decode()).key == public(key)
    assert Settings().key is None
    with pytest.raises(SettingsError, match="32 bytes in base64"):
        Settings(public_key="secret")
