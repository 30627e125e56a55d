"""One message to an SNS topic."""

from typing import Final

import boto3
import botocore.config
import botocore.exceptions

from liveness_etl.aws import make_client
from liveness_etl.errors import AlertFailed, UsageError

_CONFIG: Final = botocore.config.Config(
    connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2, "mode": "standard"}
)
_SUBJECT_CHARACTERS: Final = 100  # SNS takes no more, and ASCII alone


def publish(topic_arn: str, subject: str, message: str, profile: str | None = None) -> None:
    """Publish in the topic's own region, with boto3's own credentials (of `profile`, if given). Raises AlertFailed."""
    try:
        session = boto3.session.Session(profile_name=profile, region_name=topic_arn.split(":")[3])
        client = make_client(session, "sns", _CONFIG)
        try:
            client.publish(
                TopicArn=topic_arn,
                Subject=subject.encode("ascii", "replace").decode()[:_SUBJECT_CHARACTERS],
                Message=message,
            )
        finally:
            client.close()
    except botocore.exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise AlertFailed(f"alerts.sns_topic_arn: SNS said {code}; sns:Publish on the topic is needed") from None
    except (botocore.exceptions.BotoCoreError, UsageError) as error:
        raise AlertFailed(f"alerts.sns_topic_arn: SNS cannot be called ({type(error).__name__})") from None
