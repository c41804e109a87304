"""What a URL of an object store leads to, and what goes wrong there in the words of this project."""

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from matchkit.core.errors import StoreError

if TYPE_CHECKING:
    from obstore.store import ObjectStore as ObjectStore
else:
    ObjectStore = object  # the library is imported when a URL is opened, not before

PROTOCOLS = ("s3", "gs", "az", "abfs", "abfss", "http", "https", "memory")
"""What a URL may begin with; http and https are WebDAV servers, only to be read; memory ends with the process."""
REASONS = {
    r"/latest/api/token|token request|Missing \w*AccessKey": (
        "no credentials for it in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
    ),
    r"NoSuchBucket|ContainerNotFound": "there is no such bucket",
    r"code: 40[13].*?<Code>(.*?)</Code>\s*<Message>(.*?)</Message>": (
        "{1} ({0}). Check the credentials in the environment, and what they permit"
    ),
    r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>": "{1} ({0})",
    r"status code: (\d+ [\w ]+)": "the server answers {0}",
    r"not yet implemented": "what this protocol leads to can only be read",
    r"kind: Timeout": "the server did not answer in time; AWS_TIMEOUT=5m in the environment gives it longer",
    r"BadScheme": "the endpoint has no TLS; AWS_ALLOW_HTTP=true in the environment permits that",
    r'(?:message|error): "([^"]+)"': "the server cannot be reached ({0}). Check AWS_ENDPOINT_URL in the environment",
    r"Unable to recognise": "obstore does not understand it",
    r"Generic \w+ error: ([^\n]+)": "{0}",
    r"([^\n]+)": "{0}",
}
"""What to say of an error of obstore, by the first pattern found. Its own words are many lines."""
ADDRESS = re.compile(r"\w+://\S+")
"""Not to be told: the addresses of requests may hold secrets."""


def open_store(url: str) -> ObjectStore:
    """Obstore's store for a URL, with its root there; nothing is asked of the server yet.

    Raises:
        StoreError: the URL is not understood or carries a secret, or obstore is not installed.
    """
    parts = urlsplit(url)
    if parts.password or parts.query:
        raise StoreError(
            f"a URL of {parts.scheme}://{parts.hostname} with a secret in it: put that into the environment"
        )
    if parts.scheme not in PROTOCOLS:
        known = ", ".join(f"{protocol}://" for protocol in PROTOCOLS)
        raise StoreError(f"{url}: unknown protocol; there are {known} and the plain paths of local folders")
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise StoreError(f"{url} needs obstore. Run: pip install 'matchkit[objectstore]'") from error
    if parts.scheme == "memory":
        return _memory(url.rstrip("/"))
    try:
        # options given here would displace those of the environment
        return from_url(url, client_options={"allow_http": True}) if parts.scheme == "http" else from_url(url)
    except BaseError as error:
        raise StoreError(f"{url}: {reason(error)}") from None


@functools.cache
def _memory(url: str) -> ObjectStore:
    """The same store at every opening of a URL."""
    from obstore.store import MemoryStore

    return MemoryStore()


@contextmanager
def told(url: str, name: str) -> Iterator[None]:
    """Says in the words of this project what goes wrong with an object under a URL.

    The cause is left out of the traceback for what it may tell (see `ADDRESS`).

    Raises:
        FileNotFoundError: there is no such object.
        EOFError: it ends before the first byte wanted of it.
        StoreError: anything else.
    """
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, FileNotFoundError, NotImplementedError) as error:
        text = str(error)
        if isinstance(error, FileNotFoundError) and not re.search("NoSuchBucket|ContainerNotFound", text):
            raise FileNotFoundError(f"{url}: {name} is not there") from None
        if re.search("416 Range Not Satisfiable|Invalid range", text):
            raise EOFError(f"{url}: {name} ends before the bytes that are wanted of it") from None
        raise StoreError(f"{url}: {reason(error)}") from None


def reason(error: Exception) -> str:
    """One line on what an error of obstore means, without the addresses of its requests."""
    for pattern, words in REASONS.items():
        found = re.search(pattern, str(error), re.DOTALL)
        if found:
            return ADDRESS.sub("the server", words.format(*found.groups()))
    return type(error).__name__
