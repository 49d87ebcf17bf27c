"""The edge story: a model reaches the fleet, a broken one stops at the canary, drift brings a better one.

Five cores on an embedded AWS of the story's own run the built-in data set `surface-defects`. When half of the lamps
fail, the devices' pictures are dark: they say drift, keep samples, a queue is labelled (here by the truth that the
story knows, as a person would), the flow starts again by itself, and the new model goes the same way as the first.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import camera, dataset, fleetpicture, flow, label, launch, processes, registry, stack, synth
from lab.clock import Clock
from lab.home import Home, merged_overrides, read_json
from lab.release import Work
from lab.stack import Stack
from lab.story import Story

TITLE = "A fleet one can trust"
DATASET = "surface-defects"
SEED = 4_711
# Pictures that each device sees in the dark, those kept back to compare the two models on, and how dark it is.
SHOWN, HELD, LIGHT = 120, 200, 0.55
SETTINGS: dict[str, dict[str, Any]] = {
    "data": {"dataset": DATASET},
    "train": {"epochs": 50},
    "edge": {
        "devices": 5,
        "canaries": 1,
        "capture_per_day": 100,
        "queue_rows": 400,
        "telemetry_s": 20.0,
        "public_key": "",
    },
}
PATIENCE_S = 240.0
Answers = dict[str, dict[str, Any]]
POLL_S = 0.5


@dataclass(frozen=True)
class Picture:
    """One picture that a camera takes, and the truth about it."""

    name: str
    label: str
    png: bytes


@dataclass(frozen=True)
class Scene:
    """What the chapters share."""

    home: Home
    work: Work
    story: Story

    @property
    def stack(self) -> Stack:
        return self.work.stack

    def devices(self) -> list[dict[str, Any]]:
        """Every core, the canaries first."""
        found: list[dict[str, Any]] = registry.edge(self.stack)["devices"]
        return sorted(found, key=lambda row: "canary" not in row["groups"])

    def versions(self, group: str) -> set[str]:
        """What serves on the devices of a group."""
        return {str(row["model_version"]) for row in self.devices() if group in row["groups"]}

    def folder(self, thing: str) -> Path:
        """The runtime component's work folder on a device."""
        return self.stack.engine.root / "devices" / thing / "work" / self.stack["RuntimeComponent"]


def edge(home: Home, story: Story) -> None:
    """Tells the whole story. Raises LabError where it goes another way."""
    with ExitStack() as stacked:
        clock = Clock()
        overrides = merged_overrides(SETTINGS)
        server = stacked.enter_context(launch.ephemeral(home, region="us-east-1"))
        assembly = synth.synth(home, overrides)
        settings = read_json(assembly.path / "lab.json")["settings"]["data"]
        writing = stacked.enter_context(dataset.writing(home, DATASET, settings, server.root))
        running = server.ready()
        stack.deploy(running.engine(), assembly)
        scene = Scene(home, Work(home, stack.deployed(running.engine()), story.progress, clock), story)
        first = _first(scene, writing)
        _broken(scene, first)
        dark = list(_dark(scene, SHOWN * 5 + HELD))
        shown, held = dark[:-HELD], dark[-HELD:]
        before = _drift(scene, first, shown, held)
        second = _retrained(scene, first, shown + held)
        _compared(scene, held, before, second)
        story.pictures.insert(0, ("Which model each core served, and what happened to it", _fleet(scene)))


def _first(scene: Scene, writing: dataset.Writing) -> str:
    """The flow on the first data, approved; the version that then serves."""
    story = scene.story
    with story.chapter("A model is trained, approved, and goes to the canary, then to the fleet") as chapter:
        data = writing.finish()
        version = _flow_to_fleet(scene, lambda: dataset.upload(scene.stack.engine, scene.stack["DataBucket"], data))
        story.must(scene.versions("canary") == scene.versions("fleet") == {version}, f"all serve {version}")
        story.say(f"{len(scene.devices())} cores serve version {version}, the canary first")
        chapter.figures["version"] = version
    return version


def _flow_to_fleet(scene: Scene, start: Callable[[], str]) -> str:
    """What `start` puts into the bucket starts the flow; its model is approved and released; its version."""
    here, story = scene.stack, scene.story
    before = flow.known(here, here["FlowArn"])
    key = start()
    arn = flow.started_by_event(here, here["FlowArn"], before, key)
    outcome = flow.follow(here, arn, "flow", scene.work.progress)
    story.must(outcome.status == "SUCCEEDED", f"the flow ended with a model: {outcome.error} {outcome.cause}"[:400])
    package = registry.of_run(here, outcome.run)
    assert package is not None
    released = _released(scene, package)
    story.must(released.status == "SUCCEEDED", f"the release went through: {released.error} {released.cause}"[:400])
    registry.await_fleet(here)
    order = [state.name for state in released.states if state.name in ("DeployCanary", "JudgeCanaries", "DeployFleet")]
    story.must(order == ["DeployCanary", "JudgeCanaries", "DeployFleet"], "canary, judgement and fleet in this order")
    return package.version


def _released(scene: Scene, package: registry.Package) -> flow.Outcome:
    here = scene.stack
    before = flow.known(here, here["ReleaseFlowArn"])
    registry.decide(here, package, registry.APPROVED)
    arn = flow.started_by_event(here, here["ReleaseFlowArn"], before, package.arn)
    return flow.follow(here, arn, "release", scene.work.progress)


# A broken model


def _broken(scene: Scene, version: str) -> None:
    """A release whose golden answers are wrong: registered and approved like any other."""
    story = scene.story
    with story.chapter("A model that fails its golden answers stops at the canary") as chapter:
        bad = ".".join([*version.split(".")[:2], str(int(version.split(".")[2]) + 1)])
        released = _released(scene, _copied(scene.stack, version, bad))
        story.must(released.error == "CanaryRefused", f"the release of {bad} is refused at the canary")
        story.must(scene.versions("fleet") == {version}, "the fleet never saw it")
        story.must(_until(lambda: scene.versions("canary") == {version}), "the canary is back at the last good version")
        story.say(released.cause.split("\n")[0][:300])
        story.say(f"the fleet serves {version} as before, and so does the canary again")
        chapter.figures["refused"] = bad


def _copied(here: Stack, version: str, bad: str) -> registry.Package:
    """The release's files once more under another version, the golden answers off by a fifth; registered."""
    s3, bucket = here.client("s3"), here["DataBucket"]
    for row in s3.list_objects_v2(Bucket=bucket, Prefix=f"releases/{version}/")["Contents"]:
        body = s3.get_object(Bucket=bucket, Key=row["Key"])["Body"].read()
        if row["Key"].endswith("edge-x86/model.zip"):
            body = _spoiled(body, bad)
        s3.put_object(Bucket=bucket, Key=row["Key"].replace(version, bad, 1), Body=body)
    client = here.client("sagemaker")
    good = next(row for row in registry.packages(here) if row.version == version)
    known = client.describe_model_package(ModelPackageName=good.arn)
    about = known["CustomerMetadataProperties"]
    made = client.create_model_package(
        ModelPackageGroupName=here["ModelPackageGroup"].rpartition("/")[2],
        ModelApprovalStatus=registry.PENDING,
        InferenceSpecification=known["InferenceSpecification"],
        CustomerMetadataProperties={
            **about, "version": bad, "manifest": about["manifest"].replace(version, bad)
        },
    )["ModelPackageArn"]  # fmt: skip
    return registry.package(here, str(made))


def _spoiled(package: bytes, version: str) -> bytes:
    import numpy as np

    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    golden, written = dict(np.load(io.BytesIO(files["golden.npz"]))), io.BytesIO()
    np.savez(written, **{**golden, "outputs": golden["outputs"] + 0.2})
    about = json.loads(files["model.json"])
    about["version"] = version
    about["sha256"]["golden.npz"] = hashlib.sha256(written.getvalue()).hexdigest()
    files |= {"golden.npz": written.getvalue(), "model.json": json.dumps(about).encode()}
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return whole.getvalue()


# Drift


def _drift(scene: Scene, version: str, shown: Sequence[Picture], held: Sequence[Picture]) -> Answers:
    """The lamps fail; what the devices answer, report and keep. The answers to `held`, to compare the models by."""
    story = scene.story
    with story.chapter("Half of the lamps fail: the devices say drift and keep what is worth a look") as chapter:
        answers = _show(scene, shown)
        chapter.figures["accuracy"] = right = _accuracy(answers, shown)
        story.say(f"{len(answers)} dark pictures answered by {version}, {100 * right:.1f} % of them rightly")
        story.must(_until(lambda: _alerts(scene, "drift")), "a device reports drift")
        drifted = _alerts(scene, "drift")
        chapter.figures["psi"] = worst = max(float(alert["detail"].split(";")[0]) for alert in drifted)
        things = {alert["thing"] for alert in drifted}
        story.say(f"{len(things)} of {len(scene.devices())} devices report drift, an index of up to {worst:g}")
        return _show(scene, held)


def _dark(scene: Scene, count: int) -> Iterator[Picture]:
    """Fresh pictures of the same surfaces, which no model has seen, in little light and in random order."""
    import numpy as np
    from PIL import Image

    folder = scene.story.folder / "dark"
    argv = [sys.executable, "-m", "models.datasets", DATASET, "--out", str(folder), "--count", str(count)]
    argv += ["--seed", str(SEED)]
    done = processes.run(argv, cwd=scene.home.repo, env=launch.environment(scene.home))
    scene.story.must(done.rc == 0, f"the dark pictures were rendered: {' '.join(done.last_lines(1))}")
    paths = sorted(path for path in folder.rglob("*.png"))
    random.Random(SEED).shuffle(paths)
    for number, path in enumerate(paths):
        pixels = np.asarray(Image.open(path), np.float32)
        out = io.BytesIO()
        Image.fromarray(np.round(pixels * LIGHT).astype(np.uint8)).save(out, "PNG")
        yield Picture(f"dark-{number:05}.png", path.parent.name, out.getvalue())


def _show(scene: Scene, pictures: Sequence[Picture]) -> Answers:
    """Puts pictures before the devices' cameras, in turn; their answers by the picture's name."""
    things = [row["thing"] for row in scene.devices()]
    for number, picture in enumerate(pictures):
        camera.place(scene.folder(things[number % len(things)]) / "inbox", picture.name, picture.png)
    wanted = {picture.name for picture in pictures}

    def answers() -> Answers:
        found: Answers = {}
        for thing in things:
            for path in sorted(scene.folder(thing).glob("results.jsonl*"), reverse=True):
                rows = (json.loads(line) for line in path.read_text("utf-8").splitlines())
                found |= {str(row["source"]): row for row in rows if row.get("source") in wanted}
        return found

    scene.story.must(_until(lambda: len(answers()) == len(wanted)), "each picture is answered")
    return answers()


def _accuracy(answers: Mapping[str, Mapping[str, Any]], pictures: Sequence[Picture]) -> float:
    right = [one for one in pictures if answers[one.name].get("label") == one.label]
    return len(right) / len(pictures)


def _alerts(scene: Scene, kind: str) -> list[dict[str, Any]]:
    """The alerts of a kind that reached the lake."""
    s3, bucket = scene.stack.client("s3"), scene.stack["DataBucket"]
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="telemetry/")
    keys = [row["Key"] for page in pages for row in page.get("Contents", []) if "/alert-" in row["Key"]]
    found = [json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys]
    return [alert for alert in found if alert["kind"] == kind]


# A better model


def _retrained(scene: Scene, version: str, seen: Sequence[Picture]) -> str:
    """What the devices kept is labelled, the flow starts by itself, its model goes to the fleet; its version."""
    story, here = scene.story, scene.stack
    truth = {hashlib.sha256(one.png).hexdigest(): one.label for one in seen}
    with story.chapter("A person labels the queue, the flow trains on it, and the new model rolls out") as chapter:
        wanted = len(seen) // 8
        story.must(_until(lambda: len(_uploaded(scene)) >= wanted), f"devices uploaded {wanted} samples")
        queue = story.folder / "queue"
        shutil.rmtree(queue, ignore_errors=True)
        found = label.fetch(here, None, queue)
        rows = _filled(queue, truth)
        story.say(f"{found['rows']} samples waited for a label; {rows} of them were dark, and have one now")
        chapter.figures |= {"queued": found["rows"], "labelled": rows}

        def take() -> str:
            manifest: str = label.take(scene.home, here, queue / "labels.csv")["manifest"]
            return manifest.removeprefix(f"s3://{here['DataBucket']}/")

        second = _flow_to_fleet(scene, take)
        story.must(second != version, "another model came out")
        story.say(f"version {second} serves on {len(scene.devices())} cores, the canary first")
        chapter.figures["version"] = second
    return second


def _filled(queue: Path, truth: Mapping[str, str]) -> int:
    """Fills the queue's column `label` in; how many rows got one, the others being skipped."""
    path = queue / "labels.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["label"] = truth.get(hashlib.sha256((queue / row["file"]).read_bytes()).hexdigest(), "skip")
    with path.open("w", encoding="utf-8", newline="") as stream:
        out = csv.DictWriter(stream, list(rows[0]))
        out.writeheader()
        out.writerows(rows)
    return sum(row["label"] != "skip" for row in rows)


def _compared(scene: Scene, held: Sequence[Picture], before: Answers, version: str) -> None:
    """Both models on the same dark pictures, none of which was labelled and learned from."""
    story = scene.story
    with story.chapter("In the dark the new model is right where the old one was not") as chapter:
        learned = _uploaded(scene)
        fresh = [one for one in held if hashlib.sha256(one.png).hexdigest() not in learned]
        again = [Picture(f"again-{one.name}", one.label, one.png) for one in fresh]
        after = _show(scene, again)
        old, new = _accuracy(before, fresh), _accuracy(after, again)
        chapter.figures |= {"pictures": len(fresh), "before": old, "after": new}
        story.say(f"of {len(fresh)} dark pictures that neither has learned from, {100 * old:.1f} % before")
        story.say(f"and {100 * new:.1f} % with version {version}")
        story.must({row["model_version"] for row in after.values()} == {version}, f"every device answers by {version}")
        story.must(new > old, "the new model is better in the dark")
        story.pictures.append(("Answers that are right, in the dark", _bars([("before", old), ("after", new)])))


def _uploaded(scene: Scene) -> set[str]:
    """SHA-256 of every sample that devices put into the bucket."""
    s3, bucket = scene.stack.client("s3"), scene.stack["DataBucket"]
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"raw/{DATASET}-device/")
    keys = [row["Key"] for page in pages for row in page.get("Contents", []) if row["Key"].endswith(".png")]
    return {hashlib.sha256(s3.get_object(Bucket=bucket, Key=key)["Body"].read()).hexdigest() for key in keys}


def _bars(rows: Sequence[tuple[str, float]]) -> str:
    """Shares as bars with their figures."""
    parts = [f'<svg class="chart" viewBox="0 0 1000 {44 * len(rows) + 8}" role="img" aria-label="shares">']
    for number, (name, share) in enumerate(rows):
        top = 44 * number + 4
        parts.append(f'<text class="row ours" x="90" y="{top + 24}">{name}</text>')
        parts.append(
            f'<rect class="v{number}" x="104" y="{top}" width="{max(2.0, 800 * share):.1f}" height="36" rx="4"/>'
        )
        parts.append(f'<text class="big" x="{116 + 800 * share:.1f}" y="{top + 25}">{100 * share:.1f} %</text>')
    return "\n".join([*parts, "</svg>"])


def _fleet(scene: Scene) -> str:
    return fleetpicture.draw(fleetpicture.read(scene.stack.engine.root / "devices", scene.devices()))


def _until(condition: Callable[[], Any], seconds: float = PATIENCE_S) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
