"""Resource types that watch and tell: CloudWatch alarms, dashboards, CloudTrail, SNS, budgets."""

from __future__ import annotations

from typing import Any

from lab.resource import Kind, Made, Properties, Site, document

ALARM = (
    "ActionsEnabled", "AlarmActions", "AlarmDescription", "AlarmName", "ComparisonOperator", "DatapointsToAlarm",
    "Dimensions", "EvaluateLowSampleCountPercentile", "EvaluationPeriods", "ExtendedStatistic",
    "InsufficientDataActions", "MetricName", "Metrics", "Namespace", "OKActions", "Period", "Statistic", "Tags",
    "Threshold", "ThresholdMetricId", "TreatMissingData", "Unit",
)  # fmt: skip
TOPIC = ("DisplayName", "KmsMasterKeyId")
TRAIL = (
    "EnableLogFileValidation", "IncludeGlobalServiceEvents", "IsMultiRegionTrail", "KMSKeyId", "S3BucketName",
    "S3KeyPrefix",
)  # fmt: skip


def _make_alarm(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("AlarmName") or site.named(255))
    site.call("cloudwatch", "put_metric_alarm", {**_numbers(wanted), "AlarmName": name})
    return name


def _numbers(wanted: Properties) -> dict[str, Any]:
    """CloudFormation takes numbers as text, the API does not."""
    given = dict(wanted)
    for key in ("Period", "EvaluationPeriods", "DatapointsToAlarm"):
        if key in given:
            given[key] = int(given[key])
    if "Threshold" in given:
        given["Threshold"] = float(given["Threshold"])
    return given


def _read_alarm(made: Made) -> Properties:
    [found] = made.site.call("cloudwatch", "describe_alarms", {"AlarmNames": [made.id]})["MetricAlarms"]
    tags = made.site.call("cloudwatch", "list_tags_for_resource", {"ResourceARN": found["AlarmArn"]})["Tags"]
    return {**found, "Tags": tags}


def _make_dashboard(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("DashboardName") or site.named(255))
    given = {"DashboardName": name, "DashboardBody": document(wanted["DashboardBody"])}
    answer = site.call("cloudwatch", "put_dashboard", given)
    if answer.get("DashboardValidationMessages"):
        raise ValueError(f"put_dashboard: {answer['DashboardValidationMessages']}")
    return name


def _read_dashboard(made: Made) -> Properties:
    return made.site.call("cloudwatch", "get_dashboard", {"DashboardName": made.id})


def _make_topic(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("TopicName") or site.named(256))
    attributes = {key: str(wanted[key]) for key in TOPIC if key in wanted}
    given = {"Name": name, "Attributes": attributes, "Tags": wanted.get("Tags")}
    arn = str(site.call("sns", "create_topic", given)["TopicArn"])
    for subscription in wanted.get("Subscription", []):
        site.call("sns", "subscribe", {"TopicArn": arn, **subscription})
    return arn


def _read_topic(made: Made) -> Properties:
    found = made.site.call("sns", "get_topic_attributes", {"TopicArn": made.id})["Attributes"]
    tags = made.site.call("sns", "list_tags_for_resource", {"ResourceArn": made.id})["Tags"]
    there = made.site.call("sns", "list_subscriptions_by_topic", {"TopicArn": made.id})["Subscriptions"]
    return {**found, "TopicName": made.id.rpartition(":")[2], "Subscription": there, "Tags": tags}


def _change_topic(made: Made, wanted: Properties) -> None:
    for key in TOPIC:
        given = {"TopicArn": made.id, "AttributeName": key, "AttributeValue": str(wanted.get(key, ""))}
        made.site.call("sns", "set_topic_attributes", given)


def _make_topic_policy(site: Site, wanted: Properties) -> str:
    for arn in wanted["Topics"]:
        given = {"AttributeName": "Policy", "AttributeValue": document(wanted["PolicyDocument"])}
        site.call("sns", "set_topic_attributes", {"TopicArn": arn, **given})
    return site.named()


def _read_topic_policy(made: Made) -> Properties:
    topics = made.properties["Topics"]
    found = made.site.call("sns", "get_topic_attributes", {"TopicArn": topics[0]})["Attributes"]
    return {"Topics": topics, "PolicyDocument": found["Policy"]}


def _make_subscription(site: Site, wanted: Properties) -> str:
    given = {key: wanted.get(key) for key in ("TopicArn", "Protocol", "Endpoint")}
    attributes = {
        key: document(wanted[key]) if not isinstance(wanted[key], bool) else str(wanted[key]).lower()
        for key in ("FilterPolicy", "FilterPolicyScope", "RawMessageDelivery")
        if key in wanted
    }
    more = {"Attributes": attributes, "ReturnSubscriptionArn": True}
    return str(site.call("sns", "subscribe", {**given, **more})["SubscriptionArn"])


def _read_subscription(made: Made) -> Properties:
    return dict(made.site.call("sns", "get_subscription_attributes", {"SubscriptionArn": made.id})["Attributes"])


def _make_budget(site: Site, wanted: Properties) -> str:
    budget = dict(wanted["Budget"])
    budget.setdefault("BudgetName", site.named(100))
    if "BudgetLimit" in budget:
        budget["BudgetLimit"] = {**budget["BudgetLimit"], "Amount": str(budget["BudgetLimit"]["Amount"])}
    told = []
    for entry in wanted.get("NotificationsWithSubscribers", []):
        notification = {**entry["Notification"], "Threshold": float(entry["Notification"]["Threshold"])}
        told.append({**entry, "Notification": notification})
    account = {"AccountId": site.engine.account}
    site.call("budgets", "create_budget", {**account, "Budget": budget, "NotificationsWithSubscribers": told})
    return str(budget["BudgetName"])


def _read_budget(made: Made) -> Properties:
    which = {"AccountId": made.site.engine.account, "BudgetName": made.id}
    found = made.site.call("budgets", "describe_budget", which)["Budget"]
    told = made.site.call("budgets", "describe_notifications_for_budget", which)["Notifications"]
    wanted = made.properties.get("NotificationsWithSubscribers", [])
    # moto keeps subscribers but has no API that shows them: they are taken from what was sent.
    people = [entry["Subscribers"] for entry in wanted]
    shown = [{"Notification": one, "Subscribers": who} for one, who in zip(told, people, strict=False)]
    return {"Budget": found, "NotificationsWithSubscribers": shown}


def _make_trail(site: Site, wanted: Properties) -> str:
    name = str(wanted.get("TrailName") or site.named(128))
    given = {key: wanted.get(key) for key in TRAIL}
    site.call("cloudtrail", "create_trail", {**given, "Name": name, "TagsList": wanted.get("Tags")})
    _select(site, name, wanted)
    return name


def _select(site: Site, name: str, wanted: Properties) -> None:
    """Which events, and whether any are recorded at all."""
    if "AdvancedEventSelectors" in wanted:
        given = {"TrailName": name, "AdvancedEventSelectors": wanted["AdvancedEventSelectors"]}
        site.call("cloudtrail", "put_event_selectors", given)
    logging = str(wanted["IsLogging"]).lower() == "true"
    site.call("cloudtrail", "start_logging" if logging else "stop_logging", {"Name": name})


def _change_trail(made: Made, wanted: Properties) -> None:
    made.site.call("cloudtrail", "update_trail", {**{key: wanted.get(key) for key in TRAIL}, "Name": made.id})
    _select(made.site, made.id, wanted)


def _read_trail(made: Made) -> Properties:
    found = made.site.call("cloudtrail", "get_trail", {"Name": made.id})["Trail"]
    chosen = made.site.call("cloudtrail", "get_event_selectors", {"TrailName": made.id})
    status = made.site.call("cloudtrail", "get_trail_status", {"Name": made.id})
    [tags] = made.site.call("cloudtrail", "list_tags", {"ResourceIdList": [found["TrailARN"]]})["ResourceTagList"]
    return {
        **found,
        "TrailName": found["Name"],
        "EnableLogFileValidation": found["LogFileValidationEnabled"],
        "AdvancedEventSelectors": chosen.get("AdvancedEventSelectors"),
        "IsLogging": status["IsLogging"],
        "Tags": tags["TagsList"],
    }


KINDS = (
    Kind(
        "AWS::CloudWatch::Alarm",
        frozenset(ALARM),
        _make_alarm, _read_alarm,
        lambda made: made.site.call("cloudwatch", "delete_alarms", {"AlarmNames": [made.id]}),
        attributes={"Arn": lambda made: made.site.arn("cloudwatch", f"alarm:{made.id}")},
        how="executed",
        note="Evaluated when a metric arrives, with the EventBridge event of a change; no clock runs, so nothing "
        "changes by waiting. Metric math and percentiles are kept, and no action of its own is taken.",
    ),
    Kind(
        "AWS::CloudWatch::Dashboard",
        frozenset({"DashboardBody", "DashboardName", "Tags"}),
        _make_dashboard, _read_dashboard,
        lambda made: made.site.call("cloudwatch", "delete_dashboards", {"DashboardNames": [made.id]}),
        inert={"Tags": "the desk's CloudWatch keeps no tags of dashboards"},
        note="The body is kept and read back; nothing draws it.",
    ),
    Kind(
        "AWS::CloudTrail::Trail",
        frozenset({*TRAIL, "AdvancedEventSelectors", "IsLogging", "Tags", "TrailName"}),
        _make_trail, _read_trail,
        lambda made: made.site.call("cloudtrail", "delete_trail", {"Name": made.id}),
        _change_trail,
        {"Arn": lambda made: made.site.arn("cloudtrail", f"trail/{made.id}")},
        note="Kept and read back; no event is recorded here.",
        fixed=frozenset({"Tags", "TrailName"}),
    ),
    Kind(
        "AWS::SNS::Topic",
        frozenset({*TOPIC, "Subscription", "Tags", "TopicName"}),
        _make_topic, _read_topic,
        lambda made: made.site.call("sns", "delete_topic", {"TopicArn": made.id}),
        _change_topic,
        {"TopicArn": lambda made: made.id, "TopicName": lambda made: made.id.rpartition(":")[2]},
        how="executed",
        note="Messages reach SQS subscribers; mail and text messages are kept and not sent.",
        fixed=frozenset({"Subscription", "TopicName"}),
    ),
    Kind(
        "AWS::SNS::TopicPolicy",
        frozenset({"PolicyDocument", "Topics"}),
        _make_topic_policy, _read_topic_policy,
        lambda made: None,
        note="Decides what EventBridge and roles may publish; it goes with its topic.",
    ),
    Kind(
        "AWS::SNS::Subscription",
        frozenset({"Endpoint", "FilterPolicy", "FilterPolicyScope", "Protocol", "RawMessageDelivery", "TopicArn"}),
        _make_subscription, _read_subscription,
        lambda made: made.site.call("sns", "unsubscribe", {"SubscriptionArn": made.id}),
        note="Confirmed at once; mail and text messages are kept and not sent.",
    ),
    Kind(
        "AWS::Budgets::Budget",
        frozenset({"Budget", "NotificationsWithSubscribers", "ResourceTags"}),
        _make_budget, _read_budget,
        lambda made: made.site.call(
            "budgets", "delete_budget", {"AccountId": made.site.engine.account, "BudgetName": made.id}
        ),
        inert={"ResourceTags": "the desk's Budgets keeps no tags"},
        note="Kept and read back, subscribers excepted: no API of the desk shows them. Nothing costs anything here, "
        "so no notification is sent.",
    ),
)  # fmt: skip
