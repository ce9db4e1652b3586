"""The two libraries that speak S3, opened for one place with one set of credentials. Edge.

obstore moves the data: a fifth of botocore's processor time per small request, and no lock of
the interpreter held meanwhile. botocore, Amazon's own, does what obstore cannot: the store's clock
(``Date``), uploads in parts that are finished on a condition, Object Lock. Neither is imported
before somebody opens such a place; both come with ``pip install blocksnap[s3]``.
"""

from __future__ import annotations

import logging
import threading
from copy import copy
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from blocksnapd.errors import KeyMissingError, UsageError

if TYPE_CHECKING:
    import obstore.store
    from obstore.store import ClientConfig, S3Config, S3Credential

    from blocksnapd.model import Access
    from blocksnapd.s3_url import S3Place

CONNECT_TIMEOUT_S: Final = 10
REQUEST_TIMEOUT_S: Final = 300  # a part of 8 MiB at 0.3 Mbit/s
# Of one request, for what a moment mends; steady.py tries whole calls again.
RETRIES_MAX: Final = 2
RETRY_S_MAX: Final = 5
CONNECTIONS_MAX: Final = 16
_CREDENTIALS_S: Final = 300.0
_PROFILE: Final = "default"
_NOTHING: Final = "Nothing was read or written; the snapshot goes on tracking."


class Clients:
    """Both libraries for one place; botocore's client is made when first asked for."""

    def __init__(self, place: S3Place, access: Access) -> None:
        """Open them; nothing is sent yet.

        Raises:
            UsageError: the libraries are not installed.
            KeyMissingError: there are no credentials, or their file cannot be read.
        """
        self.place = place
        self._ca = access.ca
        self._session = _session()
        self._credentials = _credentials(self._session, access.credentials)
        self._made: Any = None
        self._lock = threading.Lock()
        self.data = self._open_data(place)

    @property
    def admin(self) -> Any:
        """The botocore client; thread-safe, and without types: they are made when it runs."""
        with self._lock:
            if self._made is None:
                self._made = self._open_admin()
            return self._made

    def at(self, place: S3Place) -> Clients:
        """Return them for another prefix of the same bucket; credentials and botocore's are shared.

        botocore's takes a tenth of a second and some MiB to make.
        """
        _ = self.admin
        other = copy(self)
        other.place, other.data = place, other._open_data(place)
        return other

    def _open_data(self, place: S3Place) -> obstore.store.S3Store:
        from obstore.store import S3Store as Data

        options: ClientConfig = {
            "allow_http": place.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
            "timeout": timedelta(seconds=REQUEST_TIMEOUT_S),
        }
        if self._ca is not None:
            options["root_certificate"] = _read_ca(self._ca)
        config: S3Config = {
            "region": place.region,
            "virtual_hosted_style_request": place.is_virtual,
            "checksum_algorithm": "sha256",
            "disable_bulk_delete": True,  # its answer hides why an object may not be deleted
        }
        if place.endpoint:
            config["endpoint"] = _endpoint(place)
        return Data(
            place.bucket, prefix=place.prefix or None, config=config, client_options=options,
            retry_config={
                "max_retries": RETRIES_MAX, "retry_timeout": timedelta(seconds=RETRY_S_MAX),
            },
            # Knows nothing of ``self``: obstore keeps it where no collector of garbage looks, so
            # nothing that leads back to this client could ever go.
            credential_provider=partial(_now_valid, self._credentials),
        )  # fmt: skip

    def _open_admin(self) -> Any:
        from botocore.config import Config

        place = self.place
        return self._session.create_client(
            "s3",
            region_name=place.region,
            endpoint_url=place.endpoint or None,
            verify=self._ca,
            config=Config(
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=REQUEST_TIMEOUT_S,
                max_pool_connections=CONNECTIONS_MAX,
                retries={"mode": "standard", "total_max_attempts": 1 + RETRIES_MAX},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "virtual" if place.is_virtual else "path"},
            ),
        )


def _endpoint(place: S3Place) -> str:
    # obstore takes the endpoint as it is, botocore puts the bucket's name in front by itself.
    if not place.is_virtual:
        return place.endpoint
    scheme, _, host = place.endpoint.partition("://")
    return f"{scheme}://{place.bucket}.{host}"


def _session() -> Any:
    logging.getLogger("botocore").setLevel(logging.WARNING)  # it tells where it found credentials
    try:
        import botocore.session
        import obstore.store  # noqa: F401 - both or neither
    except ImportError as error:
        raise UsageError(
            f"object storage needs a Python package that is not installed: {error.name}",
            effect=_NOTHING,
            hint="Install what it takes: pip install 'blocksnap[s3]'.",
        ) from error
    return botocore.session.get_session()


def _credentials(session: Any, path: str | None) -> Any:
    from botocore.credentials import SharedCredentialProvider
    from botocore.exceptions import BotoCoreError

    found = None
    try:
        if path is None:
            found = session.get_credentials()
        elif given := SharedCredentialProvider(path, profile_name=_PROFILE).load():
            session.set_credentials(given.access_key, given.secret_key, given.token)
            found = session.get_credentials()
    except (BotoCoreError, OSError) as error:
        raise KeyMissingError(
            f"the credentials for object storage cannot be read: {error}",
            effect=_NOTHING,
            hint="Correct the file; it is written like ~/.aws/credentials.",
        ) from error
    if found is None:
        raise KeyMissingError(
            f"there are no credentials for object storage in {path or 'the environment'}",
            effect=_NOTHING,
            hint=f"Write a file with [{_PROFILE}], aws_access_key_id and aws_secret_access_key, or "
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        )
    return found


def _now_valid(credentials: Any) -> S3Credential:
    frozen = credentials.get_frozen_credentials()
    return {
        "access_key_id": frozen.access_key,
        "secret_access_key": frozen.secret_key,
        "token": frozen.token,
        "expires_at": datetime.now(UTC) + timedelta(seconds=_CREDENTIALS_S),
    }


def _read_ca(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise KeyMissingError(
            f"the certificate {path} cannot be read: {error.strerror}",
            effect=_NOTHING,
            hint="Correct its path.",
        ) from error
