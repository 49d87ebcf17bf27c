"""Says what each runtime brings, from its pins to the names that may be imported."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from lab.errors import EngineError, NotCovered

if TYPE_CHECKING:
    from lab.engine import Engine

# Built from source where no wheel fits; lab/training.py names the fallback when it is absent.
OPTIONAL = frozenset({"sagemaker-training"})


@dataclass(frozen=True)
class Runtime:
    """A runtime by name: `packages` are the top-level names that a child in it may import."""

    name: str
    packages: tuple[str, ...]
    missing: tuple[str, ...] = ()


def resolve(engine: Engine, name: str, grants: Sequence[str] = ()) -> Runtime:
    """The runtime `name` of the deployed assembly, plus the closures of the distributions in `grants`.

    Raises EngineError when the assembly names no such runtime, or when what is installed is not what it pins.
    """
    pins = engine.settings().get("runtimes", {})
    if name not in pins:
        known = ", ".join(sorted(pins)) or "none"
        raise EngineError(f"the assembly has no runtime {name!r}", f"lab.json names: {known}")
    optional = engine.settings().get("optional", {}).get(name, [])
    packages, missing = _closure(tuple(pins[name]) + tuple(grants), tuple(optional))
    return Runtime(name, packages, missing)


@functools.cache
def _closure(requirements: tuple[str, ...], optional: tuple[str, ...] = ()) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Top-level import names of `requirements` and all they require, and the optional ones that are absent.

    Those of `optional` are admitted where they are installed, and their absence is no news.
    """
    seen: dict[str, frozenset[str]] = {}
    names: set[str] = set()
    missing: list[str] = []
    wished = [Requirement(text) for text in optional if _installed(Requirement(text).name)]
    queue = [(Requirement(text), True) for text in requirements] + [(wish, True) for wish in wished]
    while queue:
        requirement, direct = queue.pop()
        key = canonicalize_name(requirement.name)
        extras = frozenset(requirement.extras)
        if key in seen and extras <= seen[key]:
            continue
        seen[key] = seen.get(key, frozenset()) | extras
        try:
            found = importlib.metadata.distribution(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            # What a dependency lists and pip left out is no pin of ours; importing it fails by itself.
            if direct and key not in OPTIONAL:
                hint = "run make demo again; make install-bench, when [targets] allows more than onnx formats"
                raise EngineError(f"{requirement} is pinned but not installed", hint) from None
            missing.append(requirement.name)
            continue
        if direct:
            _check(requirement, found.version)
        names.update(top_level_names(found))
        queue += [(wanted, False) for wanted in _wants(found, seen[key])]
    return tuple(sorted(names)), tuple(missing)


def _installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _check(requirement: Requirement, installed: str) -> None:
    # torch's CPU wheels call themselves 2.13.0+cpu; that is the pinned version.
    if not requirement.specifier.contains(Version(installed).public, prereleases=True):
        hint = "make installs what requirements.lock pins"
        raise EngineError(f"the runtime pins {requirement}, but {installed} is installed", hint)


def _wants(found: importlib.metadata.Distribution, extras: Iterable[str]) -> list[Requirement]:
    wanted = [Requirement(text) for text in found.requires or []]
    return [item for item in wanted if _applies(item, extras)]


def _applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def top_level_names(found: importlib.metadata.Distribution) -> set[str]:
    """The names that a distribution adds to what `import` finds."""
    names = set((found.read_text("top_level.txt") or "").split())
    for file in found.files or ():
        first = file.parts[0]
        if len(file.parts) > 1 and first.isidentifier():
            names.add(first)
        elif len(file.parts) == 1 and file.suffix in (".py", ".so", ".pyd"):
            names.add(first.partition(".")[0])
    return names


def of_image(engine: Engine, uri: str) -> str:
    """The runtime behind a container image: ours by its repository, AWS's PyTorch training images as `job`.

    Raises NotCovered, by name, for any other image.
    """
    repository = uri.partition("/")[2].partition("@")[0].rpartition(":")[0] or uri.partition("/")[2]
    images: Mapping[str, Any] = engine.settings().get("images", {})
    for runtime, image in images.items():
        if image["repository"] == repository:
            return runtime
    if ".dkr.ecr." in uri and repository in ("pytorch", "pytorch-training"):
        return "job"
    ours = ", ".join(image["repository"] for image in images.values())
    raise NotCovered(
        f"the desk engine cannot run the image {uri}",
        f"it runs {ours or 'no image of this assembly'} and AWS's PyTorch training images",
    )


def guard_folder() -> Path:
    """Where sitecustomize.py lies, relative to this package."""
    return Path(__file__).resolve().parent / "guard"


def distributions(requirements: Iterable[str]) -> tuple[list[importlib.metadata.Distribution], list[str]]:
    """What `requirements` bring, themselves and all that they require, and the names of those not installed here."""
    found: dict[str, importlib.metadata.Distribution] = {}
    absent: list[str] = []
    queue = [Requirement(text) for text in requirements]
    while queue:
        requirement = queue.pop()
        key = canonicalize_name(requirement.name)
        if key in found or requirement.name in absent:
            continue
        try:
            found[key] = importlib.metadata.distribution(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            absent.append(requirement.name)
            continue
        queue += _wants(found[key], requirement.extras)
    return list(found.values()), sorted(absent)


def weight(found: importlib.metadata.Distribution) -> int:
    """Bytes of a distribution's own files, compiled Python left out."""
    paths = [Path(str(file.locate())) for file in found.files or () if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.is_file())
