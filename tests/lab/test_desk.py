"""The desk's fleet: as many cores as lab.toml says, each in its groups, each with what its groups were given."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fleets import GROUPS, Fleet, things

from lab import greengrassv2
from lab.engine import Engine

Until = Callable[[Callable[[], Any]], Any]


@pytest.fixture
def cloud(desk: Engine) -> Iterator[Fleet]:
    greengrassv2.install(desk)
    yield Fleet(desk)
    greengrassv2.stop()


def test_cores_are_as_many_as_settings_say_and_canaries_come_first(cloud: Fleet) -> None:
    cloud.settle(4, 2)
    cloud.component("lab-dev.App", "1.0.0")
    cloud.deploy("core", {"lab-dev.App": "1.0.0"})
    assert cloud.members("core") == things(1, 2, 3, 4)
    assert cloud.members("canary") == things(1, 2)
    assert cloud.members("fleet") == things(3, 4)


def test_a_single_core_is_canary_and_fleet_in_one(cloud: Fleet) -> None:
    cloud.settle(1, 1)
    cloud.component("lab-dev.App", "1.0.0")
    cloud.deploy("core", {"lab-dev.App": "1.0.0"})
    assert [cloud.members(group) for group in GROUPS] == [things(1)] * 3


def test_each_core_runs_what_its_own_groups_were_given(cloud: Fleet, until: Until) -> None:
    cloud.settle(3, 1)
    for name, version in (("lab-dev.App", "1.0.0"), ("lab-dev.Model", "1.0.0"), ("lab-dev.Model", "1.0.1")):
        cloud.component(name, version)
    cloud.deploy("core", {"lab-dev.App": "1.0.0"})
    cloud.deploy("canary", {"lab-dev.Model": "1.0.1"})
    last = cloud.deploy("fleet", {"lab-dev.Model": "1.0.0"})
    until(lambda: cloud.ended(last, *things(2, 3)))
    until(lambda: cloud.installed(things(1)[0]) == {"lab-dev.App": "1.0.0", "lab-dev.Model": "1.0.1"})
    assert all(cloud.installed(one) == {"lab-dev.App": "1.0.0", "lab-dev.Model": "1.0.0"} for one in things(2, 3))
    assert cloud.executions(things(1)[0]).keys().isdisjoint({last}), "a canary hears nothing of the fleet's deployment"


def test_a_component_pinned_at_two_versions_by_two_groups_is_a_conflict(cloud: Fleet, until: Until) -> None:
    cloud.settle(2, 1)
    for version in ("1.0.0", "1.0.1"):
        cloud.component("lab-dev.App", version)
    cloud.deploy("core", {"lab-dev.App": "1.0.0"})
    made = cloud.deploy("canary", {"lab-dev.App": "1.0.1"})
    [canary] = things(1)
    until(lambda: cloud.ended(made, canary))
    assert cloud.executions(canary)[made] == "FAILED"
    assert "pinned at 1.0.0" in cloud.reason(canary, made) and "at 1.0.1 by lab-dev-canary" in cloud.reason(
        canary, made
    )
    assert cloud.installed(canary) == {"lab-dev.App": "1.0.0"}, "what runs stays as it is"


def test_a_thing_that_joins_a_group_receives_the_groups_deployment(cloud: Fleet, until: Until) -> None:
    cloud.settle(2, 1)
    cloud.component("lab-dev.App", "1.0.0")
    cloud.component("lab-dev.Model", "1.0.0")
    cloud.deploy("core", {"lab-dev.App": "1.0.0"})
    fleet = cloud.deploy("fleet", {"lab-dev.Model": "1.0.0"})
    [first] = things(1)
    cloud.iot.add_thing_to_thing_group(thingGroupName="lab-dev-fleet", thingName=first)
    until(lambda: cloud.ended(fleet, first))
    assert cloud.installed(first)["lab-dev.Model"] == "1.0.0"


def test_the_desk_grows_and_shrinks_with_its_settings(cloud: Fleet, until: Until) -> None:
    cloud.settle(1, 1)
    cloud.component("lab-dev.App", "1.0.0")
    core = cloud.deploy("core", {"lab-dev.App": "1.0.0"})
    cloud.settle(3, 1)
    cloud.component("lab-dev.Model", "1.0.0")
    cloud.deploy("fleet", {"lab-dev.Model": "1.0.0"})
    assert (cloud.members("canary"), cloud.members("fleet")) == (things(1), things(2, 3))
    until(lambda: cloud.ended(core, *things(1, 2, 3)))
    until(lambda: cloud.installed(things(3)[0]) == {"lab-dev.App": "1.0.0", "lab-dev.Model": "1.0.0"})
    cloud.settle(2, 1)
    cloud.deploy("fleet", {"lab-dev.Model": "1.0.0"})
    assert (cloud.members("core"), cloud.members("fleet")) == (things(1, 2), things(2))


def test_deleting_a_deployment_leaves_its_components_on_the_device(cloud: Fleet, until: Until) -> None:
    cloud.settle(2, 1)
    cloud.component("lab-dev.App", "1.0.0")
    cloud.component("lab-dev.Model", "1.0.0")
    made = cloud.deploy("fleet", {"lab-dev.Model": "1.0.0"})
    [second] = things(2)
    until(lambda: cloud.ended(made, second))
    cloud.greengrass.cancel_deployment(deploymentId=made)
    cloud.greengrass.delete_deployment(deploymentId=made)
    core = cloud.deploy("core", {"lab-dev.App": "1.0.0"})
    until(lambda: cloud.ended(core, second))
    assert cloud.installed(second) == {"lab-dev.App": "1.0.0", "lab-dev.Model": "1.0.0"}
