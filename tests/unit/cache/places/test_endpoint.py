"""URLs that lead nowhere, and servers that do not do what is asked: one line says why."""

import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from matchkit.cache.places.bucket import BucketPlace
from matchkit.cache.places.place import Piece
from matchkit.core.errors import StoreError

WAYS: dict[str, Callable[[BucketPlace], object]] = {
    "read": lambda place: place.read("x"),
    "fill": lambda place: place.fill([Piece(name, 0, np.empty(1, np.uint8)) for name in "xy"]),
    "put": lambda place: place.put({"x": [b"1"], "y": [b"2"]}),
    "append": lambda place: place.append("x", b"1"),
    "sizes": lambda place: place.sizes("x"),
    "empty": lambda place: place.is_empty(),
    "delete": lambda place: place.delete(["x"]),
    "claim": lambda place: place.claim("writer"),
}


def _refused(call: Callable[[], object], url: str, reason: str) -> None:
    with pytest.raises(StoreError) as refused:
        call()
    told = str(refused.value)
    assert told.startswith(f"{url}: ")
    assert reason in told
    assert "\n" not in told
    assert "hush-hush" not in told


@pytest.mark.parametrize("way", WAYS)
def test_a_bucket_that_is_not_there(bucket_url: str, way: str) -> None:
    url = "s3://nowhere/F.zarr"
    _refused(lambda: WAYS[way](BucketPlace.at(url)), url, "no such bucket")


@pytest.mark.parametrize("way", WAYS)
def test_credentials_that_are_not_known(s3_server: Any, bucket_url: str, way: str) -> None:
    s3_server.ask("POST", "/moto-api/reset-auth", b"0")
    try:
        _refused(lambda: WAYS[way](BucketPlace.at(bucket_url)), bucket_url, "does not exist in our records")
    finally:
        s3_server.ask("POST", "/moto-api/reset-auth", b"inf")


def test_no_credentials(s3_server: Any, bucket_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"{s3_server.endpoint}/nowhere")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    _refused(lambda: BucketPlace.at(bucket_url).read("x"), bucket_url, "no credentials")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    _refused(lambda: BucketPlace.at(bucket_url).read("x"), bucket_url, "no credentials")


def test_a_server_that_is_not_there(bucket_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://me:hush-hush@127.0.0.1:{unused.getsockname()[1]}")
    began = time.monotonic()
    _refused(lambda: BucketPlace.at(bucket_url).read("x"), bucket_url, "Connection refused")
    assert time.monotonic() - began < 10


def test_a_server_that_is_too_slow(s3_server: Any, bucket_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_TIMEOUT", "50ms")
    monkeypatch.setattr(s3_server, "delay", 0.2)
    _refused(lambda: BucketPlace.at(bucket_url).claim("writer"), bucket_url, "AWS_TIMEOUT")


def test_a_server_without_tls(bucket_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    _refused(lambda: BucketPlace.at(bucket_url).read("x"), bucket_url, "AWS_ALLOW_HTTP")


def test_a_web_server_can_be_read(s3_server: Any, bucket_url: str) -> None:
    path = bucket_url.removeprefix("s3:/")
    s3_server.ask("PUT", f"{path}/x", b"abcde", **{"x-amz-acl": "public-read"})
    url = f"{s3_server.endpoint}{path}"
    place = BucketPlace.at(url)
    into = np.empty(2, np.uint8)
    place.fill([Piece("x", 1, into)])
    assert (place.read("x"), into.tobytes()) == (b"abcde", b"bc")
    _refused(lambda: place.claim("writer"), url, "can only be read")
    _refused(lambda: place.sizes(""), url, "405")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://host/F.zarr", "unknown protocol; there are s3://, gs://"),
        ("file:///tmp/F.zarr", "plain paths of local folders"),
        ("s3:///F.zarr", "does not understand"),
        ("s3://somebody:hush-hush@bucket/F.zarr", "put that into the environment"),
        ("https://host/F.zarr?sig=hush-hush", "put that into the environment"),
    ],
)
def test_urls_that_lead_nowhere(url: str, reason: str) -> None:
    with pytest.raises(StoreError) as refused:
        BucketPlace.at(url)
    assert reason in str(refused.value)
    assert "hush-hush" not in str(refused.value)


def test_an_account_that_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(StoreError, match="Account must be specified"):
        BucketPlace.at("az://container/F.zarr")


def test_without_obstore_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "obstore"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(StoreError, match=r"pip install 'matchkit\[objectstore\]'"):
        BucketPlace.at("s3://bucket/F.zarr")
