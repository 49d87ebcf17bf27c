"""Rollout, abort and timeout of a deployment's IoT job, through boto3."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from fleets import Fleet, things

from lab import greengrassv2
from lab.engine import Engine
from lab.jobs import Pace, Rate

Until = Callable[[Callable[[], Any]], Any]
AGES = 1e6  # seconds that a minute lasts where the second device is not to be reached
GOOD, BAD = {"lab-dev.Good": "1.0.0"}, {"lab-dev.Bad": "1.0.0"}
ONE_A_MINUTE = {"jobExecutionsRolloutConfig": {"maximumPerMinute": 1}}


@pytest.fixture
def fleet(desk: Engine) -> Iterator[Fleet]:
    greengrassv2.install(desk)
    made = Fleet(desk)
    made.settle(5)
    made.component("lab-dev.Good")
    made.component("lab-dev.Bad", install="exit 7", run="exit 0")
    yield made
    greengrassv2.stop()


def pace(**seconds: float) -> None:
    greengrassv2.plane().pace = Pace(**seconds)


def abort(kind: str, share: float, least: int) -> dict[str, Any]:
    criterion = {"failureType": kind, "action": "CANCEL", "thresholdPercentage": share}
    return {"abortConfig": {"criteriaList": [{**criterion, "minNumberOfExecutedThings": least}]}}


def test_without_a_rollout_every_device_is_told_at_once_and_counted(fleet: Fleet, until: Until) -> None:
    made = fleet.deploy("fleet", GOOD)
    until(lambda: fleet.told(made) == dict.fromkeys(things(2, 3, 4, 5), "SUCCEEDED"))
    details = fleet.job(made)["jobProcessDetails"]
    assert (details["numberOfSucceededThings"], details["processingTargets"]) == (4, [])
    [thing] = things(2)
    job = fleet.greengrass.get_deployment(deploymentId=made)["iotJobId"]
    execution = fleet.iot.describe_job_execution(jobId=job, thingName=thing)["execution"]
    assert (execution["status"], execution["statusDetails"]["detailsMap"]) == ("SUCCEEDED", {"reason": "SUCCESSFUL"})


def test_a_rollout_tells_one_device_after_the_other_in_their_order(fleet: Fleet, until: Until) -> None:
    pace(rollout_s=AGES)
    made = fleet.deploy("fleet", GOOD, **ONE_A_MINUTE)
    until(lambda: fleet.told(made) == dict.fromkeys(things(2), "SUCCEEDED"))
    assert fleet.job(made)["jobProcessDetails"]["processingTargets"], "others are still to be told"
    assert all(made not in fleet.executions(thing) for thing in things(3, 4, 5))


def test_a_rollout_reaches_everyone_in_the_end(fleet: Fleet, until: Until) -> None:
    pace(rollout_s=0.1)
    rate = {"baseRatePerMinute": 1, "incrementFactor": 2.0, "rateIncreaseCriteria": {"numberOfSucceededThings": 1}}
    made = fleet.deploy("fleet", GOOD, jobExecutionsRolloutConfig={"exponentialRate": rate, "maximumPerMinute": 50})
    until(lambda: fleet.told(made) == dict.fromkeys(things(2, 3, 4, 5), "SUCCEEDED"))
    until(lambda: not fleet.job(made)["jobProcessDetails"]["processingTargets"])


def test_the_rate_grows_with_those_told_or_with_those_that_succeeded_up_to_the_maximum() -> None:
    told = Rate(most=100, base=10, factor=2, step=5, counted="notified")
    assert [told.at(notified, 0) for notified in (0, 4, 5, 10, 20)] == [10, 10, 20, 40, 100]
    good = Rate(most=100, base=10, factor=1.5, step=2, counted="succeeded")
    assert [good.at(50, succeeded) for succeeded in (0, 2, 4)] == [10, 15, 22.5]
    assert Rate(most=7).at(0, 0) == 7


def test_failures_above_the_threshold_cancel_the_job_and_the_rest_never_sees_it(fleet: Fleet, until: Until) -> None:
    pace(rollout_s=AGES)
    made = fleet.deploy("fleet", BAD, **ONE_A_MINUTE, **abort("FAILED", 10.0, 1))
    until(lambda: fleet.job(made)["status"] == "CANCELED")
    assert fleet.told(made) == dict.fromkeys(things(2), "FAILED")
    assert "1 of 1 executions are FAILED" in fleet.job(made)["comment"]
    assert fleet.greengrass.get_deployment(deploymentId=made)["deploymentStatus"] == "CANCELED"
    assert all(made not in fleet.executions(thing) for thing in things(3, 4, 5))


def test_who_is_told_and_has_not_started_is_canceled_by_an_abort(fleet: Fleet, until: Until) -> None:
    fleet.iot.create_thing(thingName="lab-dev-shelf")  # a device that is off
    fleet.iot.add_thing_to_thing_group(thingGroupName="lab-dev-fleet", thingName="lab-dev-shelf")
    made = fleet.deploy("fleet", BAD, **abort("ALL", 20.0, 5))
    until(lambda: fleet.job(made)["status"] == "CANCELED")
    assert fleet.told(made)["lab-dev-shelf"] == "CANCELED"
    assert fleet.job(made)["jobProcessDetails"]["numberOfQueuedThings"] == 0


@pytest.mark.parametrize(
    ("criterion", "why"),
    [
        (abort("FAILED", 50.0, 1), "one failure of four is below half"),
        (abort("FAILED", 10.0, 5), "four of five devices are told"),
        (abort("REJECTED", 10.0, 1), "a failure is no rejection"),
    ],
)
def test_a_job_goes_on_below_its_abort_criteria(
    fleet: Fleet, until: Until, criterion: dict[str, Any], why: str
) -> None:
    fleet.component("lab-dev.Some", install='test "{iot:thingName}" != lab-dev-desk-3', run="exit 0")
    made = fleet.deploy("fleet", {"lab-dev.Some": "1.0.0"}, **criterion)
    until(lambda: fleet.ended(made, *things(2, 3, 4, 5)))
    assert fleet.job(made)["status"] == "IN_PROGRESS", why
    assert sorted(fleet.told(made).values()) == ["FAILED", "SUCCEEDED", "SUCCEEDED", "SUCCEEDED"]


def test_an_execution_that_takes_too_long_times_out_and_counts_as_such(fleet: Fleet, until: Until) -> None:
    pace(timeout_s=0.2)
    fleet.component("lab-dev.Slow", startup={"Script": "sleep 2; exit 1", "Timeout": 60})
    limits = {"timeoutConfig": {"inProgressTimeoutInMinutes": 1}, **abort("TIMED_OUT", 100.0, 1)}
    made = fleet.deploy("canary", {"lab-dev.Slow": "1.0.0"}, **limits)
    until(lambda: fleet.job(made)["status"] == "CANCELED")
    [thing] = things(1)
    assert fleet.told(made) == {thing: "TIMED_OUT"}
    later = fleet.deploy("canary", GOOD)
    until(lambda: fleet.ended(later, thing))
    assert fleet.told(made) == {thing: "TIMED_OUT"}, "what the device says afterwards does not count"


def test_canceling_the_job_cancels_the_deployment(fleet: Fleet, until: Until) -> None:
    pace(rollout_s=AGES)
    made = fleet.deploy("fleet", GOOD, **ONE_A_MINUTE)
    until(lambda: fleet.told(made) == dict.fromkeys(things(2), "SUCCEEDED"))
    fleet.iot.cancel_job(jobId=fleet.greengrass.get_deployment(deploymentId=made)["iotJobId"], comment="enough")
    assert fleet.greengrass.get_deployment(deploymentId=made)["deploymentStatus"] == "CANCELED"
    assert (fleet.job(made)["status"], fleet.job(made)["comment"]) == ("CANCELED", "enough")


def test_a_newer_deployment_ends_the_rollout_of_the_one_before(fleet: Fleet, until: Until) -> None:
    pace(rollout_s=AGES)
    old = fleet.deploy("fleet", BAD, **ONE_A_MINUTE)
    new = fleet.deploy("fleet", GOOD)
    until(lambda: fleet.ended(new, *things(2, 3, 4, 5)))
    assert fleet.job(old)["status"] == "CANCELED"
    assert [old in fleet.executions(thing) for thing in things(3, 4, 5)] == [False] * 3


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (abort("FAILED", 10.0, 1) | {"jobExecutionsRolloutConfig": {"exponentialRate": {
            "baseRatePerMinute": 5, "incrementFactor": 9.0, "rateIncreaseCriteria": {"numberOfNotifiedThings": 1},
        }}}, "incrementFactor is 9; 1.1 to 5"),
        ({"jobExecutionsRolloutConfig": {"exponentialRate": {
            "baseRatePerMinute": 5, "incrementFactor": 2.0, "rateIncreaseCriteria": {},
        }}}, "rateIncreaseCriteria names either"),
        (abort("ODD", 10.0, 1), "failureType is one of FAILED"),
        (abort("FAILED", 0.0, 1), "thresholdPercentage is above 0"),
    ],
)  # fmt: skip
def test_a_configuration_that_aws_refuses_is_refused(fleet: Fleet, job: dict[str, Any], said: str) -> None:
    with pytest.raises(ClientError, match=said):
        fleet.deploy("fleet", GOOD, **job)
