"""`lab promote`: calls the environment's own function, and tells its answer or its refusal."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from lab import cli, cloud


class Lambda:
    """A Lambda service that answers with what a test gives it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[str, Any]] = []

    def invoke(self, *, FunctionName: str, Payload: str) -> dict[str, Any]:
        self.asked.append((FunctionName, json.loads(Payload)))
        if isinstance(self.answer, Exception):
            raise self.answer
        failed = {"FunctionError": "Unhandled"} if "errorType" in self.answer else {}
        return {"Payload": io.BytesIO(json.dumps(self.answer).encode()), **failed}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("LAB_CONFIG", "LAB_ENVIRONMENT", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    text = '[lab]\nname = "acme"\n[environments.dev]\n[environments.prod]\nregion = "eu-west-1"\npromote_from = "dev"\n'
    (tmp_path / "lab.toml").write_text(text)
    return tmp_path


def said(monkeypatch: pytest.MonkeyPatch, answer: Any, account: str = "111111111111") -> tuple[Lambda, list[str]]:
    """An account whose Lambda answers so; gives it, and the regions that were asked."""
    service, regions = Lambda(answer), list[str]()

    class Session:
        def __init__(self, *, region_name: str) -> None:
            regions.append(region_name)

        def client(self, name: str, *, config: Any) -> Lambda:
            assert name == "lambda" and config.read_timeout == 900
            return service

    monkeypatch.setattr("boto3.session.Session", Session)
    monkeypatch.setattr(cloud, "account", lambda region: cloud.Cloud(region, account, "arn:me"))
    return service, regions


DONE = {"version": "1.0.42", "approval": "PendingManualApproval", "model_package": "arn:here", "source": "arn:there"}


def test_the_function_of_the_named_environment_is_asked_in_its_region(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service, regions = said(monkeypatch, DONE)
    assert cli.main(["promote", "1.0.42", "--environment", "prod", "--json"]) == 0
    assert service.asked == [("acme-prod-promote", {"version": "1.0.42"})] and regions == ["eu-west-1"]
    assert json.loads(capsys.readouterr().out) == DONE
    assert cli.main(["promote", "--environment", "prod"]) == 0
    assert service.asked[-1] == ("acme-prod-promote", {})
    assert "version 1.0.42 is here and PendingManualApproval, a copy of arn:there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            {"errorType": "PromotionRefused", "errorMessage": "nothing is approved"},
            "PromotionRefused: nothing is approved",
        ),
        (
            ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "none"}}, "Invoke"),
            "there is no function acme-dev-promote in us-east-1",
        ),
        (
            ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "Invoke"),
            "acme-dev-promote was not called: no",
        ),
        (ReadTimeoutError(endpoint_url="x"), "acme-dev-promote was not called: Read timeout"),
    ],
)
def test_a_refusal_is_one_message(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: Any, told: str
) -> None:
    said(monkeypatch, answer)
    assert cli.main(["promote"]) == 1
    assert told in capsys.readouterr().err.replace("\n", " ")


def test_another_account_than_lab_toml_names_is_not_asked(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (here / "lab.toml").read_text().replace('region = "eu-west-1"', 'account = "222222222222"')
    (here / "lab.toml").write_text(text)
    service, _ = said(monkeypatch, DONE)
    assert cli.main(["promote", "--environment", "prod"]) == 1
    told = capsys.readouterr().err.replace("\n", " ")
    assert "the credentials are of account 111111111111, lab.toml says 222222222222" in told and service.asked == []
    said(monkeypatch, DONE, account="222222222222")
    assert cli.main(["promote", "--environment", "prod"]) == 0
