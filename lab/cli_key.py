"""`lab key …`: the key with which models are signed for devices."""

from __future__ import annotations

from pathlib import Path

import click

from lab.call import Call, answer, json_option

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def key() -> None:
    """Make the key that signs models for devices, and sign with it.

    Where [edge] in lab.toml names a public_key, devices take only what its private half signed. Who approves signs:
    `lab approve --sign FILE`. The private key stays with them, out of the repository and out of the cloud.
    """


@key.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
@click.pass_obj
def new(call: Call, file: Path) -> int:
    """Write a new private key to FILE and print the line for [edge] in lab.toml."""
    from lab import signing

    public = signing.make(file)
    answer(call, {"file": str(file), "public_key": public}, f'public_key = "{public}"')
    return 0


@key.command()
@click.argument("file", type=FILE)
@click.argument("package", type=FILE)
@click.option("--manifest", type=FILE, metavar="FILE", help="The release's manifest.json.")
@click.option("--digest", metavar="HEX", help="What the model package in the registry says of its release.")
@json_option
@click.pass_obj
def sign(call: Call, file: Path, package: Path, manifest: Path | None, digest: str | None) -> int:
    """Print the signature of PACKAGE, a model's zip, by the private key in FILE.

    An account takes it with the approval, as the package's customer metadata. With --manifest and --digest only what
    was registered is signed.
    """
    from lab import signing

    if (manifest is None) != (digest is None):
        raise click.UsageError("--manifest and --digest go together")
    content = package.read_bytes()
    if manifest is not None:
        signing.check(manifest.read_bytes(), content, digest or "")
    found = signing.signature(signing.read(file), content)
    answer(call, {"signature": found}, found)
    return 0
