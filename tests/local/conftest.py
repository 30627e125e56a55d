"""Real boto3 clients for the stand-in."""

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

ONE_ATTEMPT = Config(
    retries={"total_max_attempts": 1, "mode": "standard"},
    read_timeout=5,
    max_pool_connections=50,
    parameter_validation=False,
)


@pytest.fixture(scope="session")
def aws() -> boto3.Session:
    """One session for all clients, so that the service model is read once."""
    return boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")


@pytest.fixture
def connect(aws: boto3.Session) -> Iterator[Callable[[str], Any]]:
    """Makes a client that asks once and never retries, and closes it after the test."""
    clients = []

    def connect(endpoint_url: str) -> Any:
        clients.append(aws.client("rekognition", endpoint_url=endpoint_url, config=ONE_ATTEMPT))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()
