"""Resource types that deploy: GitHub's identity provider, and the pipeline of those who have no GitHub."""

from __future__ import annotations

from typing import Any

from lab.resource import Kind, Made, Properties, Site, listed, pairs

PIPELINE = ("ArtifactStore", "ExecutionMode", "Name", "PipelineType", "RoleArn", "Stages")


def _make_provider(site: Site, wanted: Properties) -> str:
    given = {"Url": wanted["Url"], "ClientIDList": wanted.get("ClientIdList"), "Tags": wanted.get("Tags")}
    # AWS reads the thumbprint off the issuer when none is given; the desk reaches no issuer.
    prints = wanted.get("ThumbprintList") or ["0" * 40]
    made = site.call("iam", "create_open_id_connect_provider", {**given, "ThumbprintList": prints})
    return str(made["OpenIDConnectProviderArn"])


def _read_provider(made: Made) -> Properties:
    found = made.site.call("iam", "get_open_id_connect_provider", {"OpenIDConnectProviderArn": made.id})
    url = str(made.properties["Url"])
    same = found["Url"].removeprefix("https://") == url.removeprefix("https://")
    return {**found, "Url": url if same else found["Url"], "ClientIdList": found["ClientIDList"]}


def _pipeline(wanted: Properties) -> dict[str, Any]:
    return {"pipeline": {**{key: wanted[key] for key in PIPELINE if key in wanted}, "version": 1}}


def _make_pipeline(site: Site, wanted: Properties) -> str:
    tags = listed(pairs(wanted["Tags"])) if wanted.get("Tags") else None
    made = site.call("codepipeline", "create_pipeline", {**_pipeline(wanted), "tags": tags})
    return str(made["pipeline"]["name"])


def _read_pipeline(made: Made) -> Properties:
    found = made.site.call("codepipeline", "get_pipeline", {"name": made.id})["pipeline"]
    arn = made.site.arn("codepipeline", made.id)
    tags = made.site.call("codepipeline", "list_tags_for_resource", {"resourceArn": arn})["tags"]
    return {**found, "Tags": tags}


KINDS = (
    Kind(
        "AWS::IAM::OIDCProvider",
        frozenset({"ClientIdList", "Tags", "ThumbprintList", "Url"}),
        _make_provider, _read_provider,
        lambda made: made.site.call(
            "iam", "delete_open_id_connect_provider", {"OpenIDConnectProviderArn": made.id}
        ),
        attributes={"Arn": lambda made: made.id},
        note="Kept and read back; no issuer is asked, and no web identity is admitted here.",
    ),
    Kind(
        "AWS::CodePipeline::Pipeline",
        frozenset({*PIPELINE, "Tags"}),
        _make_pipeline, _read_pipeline,
        lambda made: made.site.call("codepipeline", "delete_pipeline", {"name": made.id}),
        lambda made, wanted: made.site.call("codepipeline", "update_pipeline", _pipeline(wanted)),
        note="Kept and read back; nothing runs, for no repository is connected here.",
        fixed=frozenset({"Name"}),
    ),
)  # fmt: skip
