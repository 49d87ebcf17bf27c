"""Wheels for a device: whole, by hash, the same bytes again, and a device installs from them without a network."""

import json
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lab import wheelhouse
from lab.errors import LabError
from lab.home import Home

REPO = Path(__file__).parents[2]
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(REPO, tmp_path / ".lab", REPO / "lab.toml")


def made(name: str, version: str, folder: Path) -> Path:
    """A wheel of one module, made by hand, as an index would give it."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        about = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: MIT-0\n"
        archive.writestr(f"{name}-{version}.dist-info/METADATA", about)
        archive.writestr(f"{name}-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{name}-{version}.dist-info/RECORD", "")
    return path


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A package index of two wheels, which pip is pointed at, and pins for them."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("alpha_one", "beta"):
        made(name, "1.2", folder)

    def wanted(_home: Home, scratch: Path) -> list[str]:
        (scratch / "pins.txt").write_text("alpha-one==1.2\nbeta==1.2\n")
        return ["--no-index", "--find-links", str(folder), "-r", str(scratch / "pins.txt")]

    monkeypatch.setattr(wheelhouse, "_wanted", wanted)
    return folder


def test_it_holds_every_wheel_with_its_hash_and_a_bill_of_materials(home: Home, index: Path, tmp_path: Path) -> None:
    found = wheelhouse.build(home, "aarch64", "3.11", tmp_path / "out")
    assert [(wheel["name"], wheel["license"]) for wheel in found["wheels"]] == [
        ("alpha_one", "MIT-0"),
        ("beta", "MIT-0"),
    ]
    with zipfile.ZipFile(found["archive"]) as archive:
        listing = archive.read("requirements.txt").decode().splitlines()
        bill = json.loads(archive.read("sbom.json"))
        fits = json.loads(archive.read("wheelhouse.json"))
        assert sum(name.endswith(".whl") for name in archive.namelist()) == 2
    assert listing == [f"{wheel['name']}==1.2 --hash=sha256:{wheel['sha256']}" for wheel in found["wheels"]]
    assert bill["bomFormat"] == "CycloneDX" and bill["components"][0]["purl"] == "pkg:pypi/alpha-one@1.2"
    assert fits == {"machine": "aarch64", "python": "3.11"}


def test_the_same_wheels_give_the_same_bytes(home: Home, index: Path, tmp_path: Path) -> None:
    one = wheelhouse.build(home, "x86_64", HERE, tmp_path / "one")
    two = wheelhouse.build(home, "x86_64", HERE, tmp_path / "two")
    assert one["sha256"] == two["sha256"]


def test_what_the_index_lacks_and_what_is_no_machine_or_python_are_told(
    home: Home, index: Path, tmp_path: Path
) -> None:
    (index / "beta-1.2-py3-none-any.whl").unlink()
    with pytest.raises(LabError, match=r"beta"):
        wheelhouse.build(home, "x86_64", HERE, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == [], "nothing half made is left"
    with pytest.raises(LabError, match="no wheels are known for arm64"):
        wheelhouse.build(home, "arm64", HERE, tmp_path / "out")
    with pytest.raises(LabError, match=r"2\.7 is no version"):
        wheelhouse.build(home, "x86_64", "2.7", tmp_path / "out")


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """What a nucleus unpacks: the bundle, whose pins this interpreter lacks, in a folder of its own."""
    unpacked = tmp_path / "unpacked"
    (unpacked / "bundle" / "edge").mkdir(parents=True)
    for name in ("__init__.py", "install.py"):
        shutil.copy(REPO / "edge" / name, unpacked / "bundle" / "edge" / name)
    (unpacked / "bundle" / "requirements.txt").write_text("alpha-one==1.2\nbeta==1.2\n")
    (tmp_path / "work").mkdir()
    return unpacked


def installed(device: Path) -> subprocess.CompletedProcess[str]:
    work = device.parent / "work"
    argv = [sys.executable, "-m", "edge.install", "--work", str(work), "--version", "1.0.1"]
    # No index is reachable: what pip would ask is nothing's address.
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": "/dev/null", "PATH": "/usr/bin:/bin"}
    return subprocess.run(argv, cwd=device / "bundle", capture_output=True, text=True, env=nowhere, check=False)


@pytest.mark.slow
def test_a_device_installs_from_it_without_a_network(home: Home, index: Path, device: Path, tmp_path: Path) -> None:
    archive = wheelhouse.build(home, platform.machine(), HERE, tmp_path / "out")["archive"]
    shutil.unpack_archive(archive, device / "0123abcd")
    shutil.rmtree(index)
    done = installed(device)
    assert done.returncode == 0, done.stdout + done.stderr
    says = subprocess.run(
        [tmp_path / "work" / "python-1.0.1", "-c", "import alpha_one, beta; print(alpha_one.VERSION, beta.VERSION)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert says.stdout == "1.2 1.2\n"


@pytest.mark.slow
def test_a_wheel_that_was_changed_is_not_installed(home: Home, index: Path, device: Path, tmp_path: Path) -> None:
    archive = wheelhouse.build(home, platform.machine(), HERE, tmp_path / "out")["archive"]
    shutil.unpack_archive(archive, device / "0123abcd")
    with zipfile.ZipFile(device / "0123abcd" / "beta-1.2-py3-none-any.whl", "a") as wheel:
        wheel.writestr("evil.py", "")
    done = installed(device)
    assert done.returncode == 1 and "hash" in (done.stdout + done.stderr).lower()


@pytest.mark.slow
def test_a_listing_that_lost_its_hashes_installs_nothing(home: Home, index: Path, device: Path, tmp_path: Path) -> None:
    archive = wheelhouse.build(home, platform.machine(), HERE, tmp_path / "out")["archive"]
    shutil.unpack_archive(archive, device / "0123abcd")
    (device / "0123abcd" / "requirements.txt").write_text("alpha-one==1.2\nbeta==1.2\n")
    done = installed(device)
    assert done.returncode == 1 and "hash" in (done.stdout + done.stderr).lower()


@pytest.mark.slow
def test_a_wheelhouse_for_another_machine_is_passed_over(home: Home, index: Path, device: Path, tmp_path: Path) -> None:
    other = "aarch64" if platform.machine() != "aarch64" else "x86_64"
    shutil.unpack_archive(wheelhouse.build(home, other, HERE, tmp_path / "out")["archive"], device / "0123abcd")
    done = installed(device)
    assert done.returncode == 1 and "from the package index" in done.stdout
