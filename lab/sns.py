"""SNS: a message reaches the functions that subscribe to its topic, as AWS sends it.

Covers: subscriptions of protocol `lambda`, invoked in the background with AWS's event; everything else is moto's.
Does not cover: signatures (the fields are there and verify nothing) and delivery policies; mail and SMS go nowhere.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moto.sns.models import Subscription

from lab import access
from lab.needs import Need

if TYPE_CHECKING:
    from lab.engine import Engine

LOG = logging.getLogger(__name__)


def install(engine: Engine) -> None:
    """Takes over the delivery to functions from moto, which sends an example."""
    stock = Subscription.publish

    def publish(self: Subscription, message: str, message_id: str, *args: Any, **kwargs: Any) -> None:
        if self.protocol != "lambda" or not _wanted(self, message, args, kwargs):
            stock(self, message, message_id, *args, **kwargs)
            return
        given = dict(zip(("subject", "message_attributes"), args, strict=False)) | kwargs
        if given.get("message_structure") == "json":
            message = self._parse_message_structure(message, self.protocol)
        event = json.dumps({"Records": [_record(engine, self, message, message_id, given)]})
        try:
            need = Need("lambda:InvokeFunction", str(self.endpoint))
            access.require_service(engine, "sns", need, str(self.topic_arn))
        except access.AccessDenied as error:
            LOG.error("%s: %s was not invoked: %s", self.topic_arn, self.endpoint, error.message)
            return
        engine.client("lambda").invoke(FunctionName=self.endpoint, InvocationType="Event", Payload=event.encode())

    Subscription.publish = publish


def _wanted(subscription: Subscription, message: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the subscription's filter lets it through; moto's own publish drops the rest."""
    matcher = subscription._filter_policy_matcher
    attributes = kwargs.get("message_attributes") or (args[1] if len(args) > 1 else None)
    return matcher is None or bool(matcher.matches(attributes, message))


def _record(
    engine: Engine, subscription: Subscription, message: str, message_id: str, given: dict[str, Any]
) -> dict[str, Any]:
    """One record as Lambda gets it. Source: AWS Lambda, "Invoking Lambda functions with Amazon SNS notifications"."""
    place = f"https://sns.{engine.region}.amazonaws.com"
    return {
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": subscription.arn,
        "Sns": {
            "Type": "Notification",
            "MessageId": message_id,
            "TopicArn": subscription.topic_arn,
            "Subject": given.get("subject"),
            "Message": message,
            "Timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            "SignatureVersion": "1",
            "Signature": "",
            "SigningCertUrl": f"{place}/SimpleNotificationService.pem",
            "UnsubscribeUrl": f"{place}/?Action=Unsubscribe&SubscriptionArn={subscription.arn}",
            "MessageAttributes": given.get("message_attributes") or {},
        },
    }
