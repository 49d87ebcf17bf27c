"""The commands: `lab COMMAND`. Each reads its options, calls one function, prints; heavy imports wait until then."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.call import Call, answer, environment_option, json_option, print_json, sign_option
from lab.cli_cloud import cost, deploy, destroy, promote
from lab.cli_desk import down, env, logs, status, up
from lab.cli_device import device
from lab.cli_iam import iam
from lab.cli_key import key
from lab.cli_label import label
from lab.cli_new import new, upgrade

if TYPE_CHECKING:
    from lab.errors import LabError
    from lab.release import Result

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", metavar="FILE", help="Another settings file than ./lab.toml.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_obj
def lab(call: Call, config: str | None, debug: bool) -> None:
    """The ML prototyping lab: the whole machine-learning loop of the AWS stack, on this machine.

    Start with `lab doctor`, then `lab run --approve`.
    """
    call.config = config
    call.debug = debug or bool(os.environ.get("LAB_DEBUG"))


@lab.command()
@json_option
@click.pass_obj
def doctor(call: Call) -> int:
    """Say what this machine can do and what would fail, with the mend."""
    from lab import doctor, show

    rows = doctor.examine(call.home())
    if call.as_json:
        print_json([vars(row) for row in rows])
    else:
        show.findings(rows)
    return 1 if any(row.state == doctor.FAIL for row in rows) else 0


@lab.command()
@click.option("--out", default="cdk.out", type=click.Path(path_type=Path), show_default=True, help="Where to write it.")
@click.option("--dataset", metavar="NAME", help="A built-in data set instead of the one in lab.toml.")
@click.option("--size", type=click.Choice(["tiny", "base"]), help="The net's size instead of lab.toml's.")
@environment_option
@json_option
@click.pass_obj
def synth(call: Call, out: Path, dataset: str | None, size: str | None) -> int:
    """Write cdk.out: the CloudFormation template with every asset."""
    from lab import synth
    from lab.home import merged_overrides, overrides

    assembly = synth.synth(call.home(), merged_overrides(overrides(dataset, size)))
    synth.publish(assembly, out)
    said = {"path": str(out), "digest": assembly.digest, "cached": assembly.cached, "seconds": assembly.seconds}
    how = "unchanged" if assembly.cached else f"{assembly.seconds:.1f} s"
    answer(call, said, f"{out} ({how})")
    return 0


@lab.command()
@click.argument("name", type=click.Choice(["serve", "job"]), default="serve")
@json_option
@click.pass_obj
def image(call: Call, name: str) -> int:
    """Show what lies in the endpoint's (or the jobs') container image: files, packages, sizes."""
    from lab import image, synth

    found = image.describe(synth.synth(call.home(), {}).path, name)
    answer(call, found, "\n".join(image.lines(found)))
    return 0


@lab.command()
@click.option("--machine", type=click.Choice(["x86_64", "aarch64"]), default="x86_64", help="As `uname -m` says there.")
@click.option("--python", default="3.11", show_default=True, metavar="VERSION", help="The device's Python.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="wheelhouse", help="Where it goes.")
@click.option("--resolve", is_flag=True, help="Say which wheels it would be, and download none.")
@json_option
@click.pass_obj
def wheelhouse(call: Call, machine: str, python: str, out: Path, resolve: bool) -> int:
    """Gather the wheels that a device installs from without a network, with hashes and a bill of materials."""
    from lab import wheelhouse

    home = call.home()
    found = wheelhouse.resolve(home, machine, python) if resolve else wheelhouse.build(home, machine, python, out)
    answer(call, found, "\n".join(wheelhouse.lines(found)))
    return 0


@lab.command()
@click.argument("path")
@click.option("--target", metavar="COLUMN", help="The column to predict.")
@click.option("--task", type=click.Choice(["classification", "regression", "rul", "anomaly"]), help="What is asked.")
@click.option("--group", metavar="COLUMN", help="The column that tells units apart; a unit stays in one split.")
@click.option("--time", metavar="COLUMN", help="The column that orders rows.")
@click.option("--missing", metavar="TEXT", multiple=True, help="A text that stands for a missing value; repeatable.")
@json_option
@click.pass_obj
def adapt(call: Call, /, path: str, missing: tuple[str, ...], **given: str | None) -> int:
    """Look at the data in PATH (folder, file or S3 URI) and write lab.toml and a data card for them."""
    from lab import adapt

    options = adapt.Options(missing=missing, **given)
    named = bool(call.config or os.environ.get("LAB_CONFIG"))
    found = adapt.adapt(call.home(), path, options, named=named)
    text = found.pop("text")
    answer(call, found, text)
    return 0


@lab.command()
@click.option("--dataset", metavar="NAME|PATH", help="A built-in data set, or a folder with one subfolder per class.")
@click.option("--size", type=click.Choice(["tiny", "base"]), help="The net's size instead of lab.toml's.")
@click.option("--approve", is_flag=True, help="Approve the model and release it to endpoint and device.")
@sign_option
@click.option(
    "--app",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Take a synthesized assembly as it is.",
)
@environment_option
@json_option
@click.pass_obj
def run(call: Call, dataset: str | None, size: str | None, approve: bool, app: Path | None, sign: Path | None) -> int:
    """Run the whole flow once on the embedded AWS.

    Uses the embedded AWS that `lab up` started, else its own, which ends with it.
    """
    from lab import processes
    from lab.progress import shown
    from lab.run import Options, run

    if sign and not approve:
        raise click.UsageError("--sign goes with --approve: who approves signs")
    processes.stop_like_ctrl_c()
    with shown(call.progress()) as progress:
        result = run(call.home(), Options(dataset, size, approve, app, sign), progress)
    return _end(call, result)


@lab.command()
@click.argument("run", required=False)
@json_option
@click.pass_obj
def report(call: Call, run: str | None) -> int:
    """Write the HTML report of RUN (the newest without) anew and print its path."""
    from lab import report

    path = report.render(call.home().run(run))
    answer(call, {"report": str(path)}, str(path))
    return 0


@lab.command()
@click.argument("version", required=False)
@sign_option
@json_option
@click.pass_obj
def approve(call: Call, version: str | None, sign: Path | None) -> int:
    """Approve a pending model (the newest without VERSION) and follow its release to endpoint and device."""
    from lab import release
    from lab.progress import shown

    with shown(call.progress()) as progress:
        result = release.approve(call.home(), call.server(), version, progress, sign)
    return _end(call, result)


@lab.command()
@click.argument("version", required=False)
@json_option
@click.pass_obj
def reject(call: Call, version: str | None) -> int:
    """Reject a pending model (the newest without VERSION); it is never deployed."""
    from lab import release

    package = release.reject(call.server(), version)
    answer(call, vars(package), f"version {package.version} is {package.approval}")
    return 0


@lab.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--content-type", help="What FILE is, when its name does not tell.")
@json_option
@click.pass_obj
def invoke(call: Call, file: Path, content_type: str | None) -> int:
    """Send FILE (an image, .npy or .json) to the endpoint and print its answer."""
    from lab import registry, stack

    deployed = stack.deployed(call.server().engine())
    said = registry.invoke(deployed, file.read_bytes(), content_type or registry.content_type_of(file))
    best = [
        f"{row['label']}  {row['confidence']:.3f}" if "label" in row else f"{row['value']:.6g}"
        for row in said["predictions"]
    ]
    answer(call, said, "\n".join([*best, f"model version {said['model_version']}"]))
    return 0


@lab.command()
@click.argument("name", type=click.Choice(["flow", "etl", "export", "serve", "train", "device"]), default="flow")
@click.option("--dataset", metavar="NAME|PATH", help="Another data set than lab.toml's.")
@click.pass_obj
def bench(call: Call, name: str, dataset: str | None) -> int:
    """Measure on this machine; the last line is the record as JSON.

    flow runs the whole flow cold and warm; etl curates pictures and tables at sizes a decade apart (--dataset
    images or table: only these); export compares the chosen artefacts of four nets with eager PyTorch and with
    every runtime driven by hand (--dataset conv, tcn, transformer, tabular, batch32, ways or cuda: only this); serve
    asks the endpoint, and other servers with the same model (--dataset overhead, json, mlflow, litserve or fastapi:
    only this); train times a training step beside other loops, and two ranks beside one (--dataset bare, fabric,
    trainer, one-rank or ways: only this); device measures the component on devices (--dataset inference, rest, kill,
    swaps or spool: only this).
    """
    from lab import bench as benches

    rows = []
    for row in benches.BENCHES[name](call.home(), dataset):
        rows.append(row)
        click.echo(benches.line(row))
    click.echo(json.dumps(benches.document(name, rows)))
    return 0


@lab.command()
@click.argument("name", type=click.Choice(["edge"]))
@json_option
@click.pass_obj
def story(call: Call, name: str) -> int:
    """Replay a whole scenario on an embedded AWS of its own, and draw it.

    edge: a model reaches the canary and the fleet, a broken one stops at the canary, drift brings a better one.
    """
    from lab import story as stories
    from lab.progress import shown

    with shown(call.progress()) as reporter:
        told = stories.tell(call.home(), name, reporter)
    answer(call, told.document(), f"the story and its picture: {told.folder / 'story.html'}")
    return 0


for command in (
    cost, deploy, destroy, device, down, env, iam, key, label, logs, new, promote, status, up, upgrade,
):  # fmt: skip
    lab.add_command(command)


def _end(call: Call, result: Result) -> int:
    """Prints a finished run and gives its exit code."""
    from lab import show

    if call.as_json:
        print_json(result.record)
    else:
        show.summary(result.record, result.folder)
        if result.note:
            click.echo(result.note)
    if result.problem is not None:
        _tell(call, result.problem, document=False)
        return result.problem.exit_code
    return 0


def _tell(call: Call, problem: LabError, *, document: bool = True) -> None:
    """An error for people on stderr; with --json also as the one document, unless a record was that already."""
    from lab import show

    show.error(problem)
    if call.as_json and document:
        kind = type(problem).__name__
        print_json({"error": {"kind": kind, "message": problem.message, "hint": problem.hint}})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0 done, 1 a lab error, 2 usage, 3 the gate refused, 130 interrupted."""
    from lab.errors import LabError

    call = Call()
    try:
        with lab.make_context("lab", list(sys.argv[1:] if argv is None else argv), obj=call) as context:
            return int(lab.invoke(context) or 0)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as problem:
        problem.show()
        return problem.exit_code
    except LabError as problem:
        if call.debug:
            traceback.print_exc()
        _tell(call, problem)
        return problem.exit_code
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("\nlab: interrupted; everything it had started is ended\n")
        return INTERRUPTED
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - what read us has gone; say nothing at exit
        return 1
    except Exception as problem:
        if call.debug:
            traceback.print_exc()
        _tell(call, _unexpected(problem))
        return 1


def _unexpected(problem: Exception) -> LabError:
    """A LabError for what nothing else foresaw."""
    from lab.errors import LabError

    if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT):
        where = problem.filename or "the disk"
        return LabError(f"no space left: {where}", "free some space, or set LAB_HOME to a folder on another disk")
    return LabError(f"{type(problem).__name__}: {problem}", "lab --debug … shows where; lab doctor what is missing")
