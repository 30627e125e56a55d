"""A message reaches an SNS topic, in the topic's own region, and what is wrong with it is one sentence."""

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from liveness_etl.alerts import topic
from liveness_etl.errors import AlertFailed

ARN = "arn:aws:sns:eu-west-1:123456789012:liveness"


@pytest.fixture
def subscribed(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    """A topic in Ireland with a queue behind it; gives what has arrived there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_endpoint)
    session = boto3.session.Session(region_name="eu-west-1")
    sns, sqs = session.client("sns"), session.client("sqs")
    sns.create_topic(Name="liveness")
    queue = sqs.create_queue(QueueName="alerts")["QueueUrl"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=ARN, Protocol="sqs", Endpoint=queue_arn)

    def arrived() -> list[dict[str, Any]]:
        found = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        return [json.loads(message["Body"]) for message in found]

    return arrived


def test_message_arrives(subscribed: Callable[[], list[dict[str, Any]]]) -> None:
    """In the region of the ARN, whatever the program's own is; the subject is cut to what SNS takes."""
    topic.publish(ARN, "one night's rün " + "x" * 200, '{"text": "hello"}')
    (message,) = subscribed()
    assert message["Message"] == '{"text": "hello"}'
    assert message["Subject"] == ("one night's r?n " + "x" * 200)[:100]


def test_topic_that_is_not_there(subscribed: Callable[[], list[dict[str, Any]]]) -> None:
    """Says which key and which right, and not the account."""
    with pytest.raises(AlertFailed, match=r"alerts\.sns_topic_arn: SNS said NotFound.*sns:Publish") as raised:
        topic.publish(ARN + "-else", "s", "m")
    assert "123456789012" not in str(raised.value)


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that refuses, and credentials that are not there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(AlertFailed, match="SNS cannot be called"):
        topic.publish(ARN, "s", "m")
    with pytest.raises(AlertFailed, match="SNS cannot be called"):
        topic.publish(ARN, "s", "m", profile="nobody")
