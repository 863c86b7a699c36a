"""Object stores that speak S3: how one is reached, its clients, and what it says no with.

Keys are never settings: the settings name environment variables. Nothing that a store answers is
handed on as it is, for answers quote keys and signed addresses; only its code is.
"""

import atexit
import hashlib
import logging
import os
import re
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from tasks.errors import SettingsError, StorageError

if TYPE_CHECKING:
    from deltalake.fs import DeltaStorageHandler
    from s3fs import S3FileSystem

EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
TRIES = 6  # of a request that could not be sent, or that the store failed at
_FAILED_AT = (500, 502, 503, 504)  # status of answers after which another try can pass
_PATIENCE = "30s"  # that delta-rs has for all tries of a request
_CODE = re.compile(r"<Code>(\w+)</Code>|An error occurred \((\w+)\)")
_NAMES = re.compile(r"\b\w+://\S+|\b\d+\.\d+\w*")  # addresses and durations: no sign of anything


class Storage(BaseModel):
    """How the object store is reached where `paths` name one; no secret stands here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: Annotated[str, Field(pattern=r"^https?://[^/?#@\s]+/?$")] | None = Field(
        default=None, description="address of the store; none: Amazon's own"
    )
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] = "us-east-1"
    path_style: bool = Field(default=True, description="the bucket in the path, not in the host")
    ca: Path | None = Field(default=None, description="file of certificates that are trusted")
    key: EnvironmentName = Field(
        default="AWS_ACCESS_KEY_ID", description="the environment variable that holds it"
    )
    secret: EnvironmentName = "AWS_SECRET_ACCESS_KEY"
    token: EnvironmentName = Field(
        default="AWS_SESSION_TOKEN", description="of keys that expire; need not be set"
    )
    work: Path | None = Field(
        default=None, description="folder on this machine for checkpoints; none: a temporary one"
    )

    @property
    def address(self) -> str:
        """Where the store is, for people."""
        return self.endpoint or f"Amazon S3 in {self.region}"

    def credentials(self) -> tuple[str, str, str | None]:
        """Key, secret and token. Raises SettingsError where the environment has none."""
        found = [os.environ.get(name) for name in (self.key, self.secret)]
        lacking = [n for n, each in zip((self.key, self.secret), found, strict=True) if not each]
        if lacking:
            raise SettingsError(
                f"the key of the object store is missing: {' and '.join(lacking)} is not set",
                where="storage.key and storage.secret",
                unchanged="nothing was read or written",
                fix="set these environment variables, or let the settings name others",
            )
        return str(found[0]), str(found[1]), os.environ.get(self.token) or None

    def mark(self) -> str:
        """Differs where the keys differ, and tells nothing of them; differs in a fork."""
        told = "\0".join(each or "" for each in self.credentials()) + f"\0{os.getpid()}"
        return hashlib.sha256(told.encode()).hexdigest()

    def files(self) -> "S3FileSystem":
        """The client for files."""
        return _files(self, self.mark())

    def objects(self, bucket: str) -> "DeltaStorageHandler":
        """delta-rs' own client for a bucket: it can do less, at a seventh of the cost."""
        return _objects(self, bucket, self.mark())

    def delta_options(self, bucket: str) -> dict[str, str]:
        """What delta-rs is told; commits are puts that fail where the file is there already.

        It takes what it is not told from the environment, where others may have left theirs.
        """
        key, secret, token = self.credentials()
        options = {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": self.region,
            "AWS_CONDITIONAL_PUT": "etag",
            "AWS_SKIP_SIGNATURE": "false",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false" if self.path_style else "true",
            "max_retries": str(TRIES),
            "retry_timeout": _PATIENCE,
        }
        if token is not None or "AWS_SESSION_TOKEN" in os.environ:
            options["AWS_SESSION_TOKEN"] = token or ""
        if self.endpoint is not None:
            for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
                options[name] = self._endpoint_of(bucket)
            options["AWS_ALLOW_HTTP"] = str(self.endpoint.startswith("http://")).lower()
        if self.ca is not None:
            # delta-rs looks there and only there, and so may others of this process
            os.environ["SSL_CERT_FILE"] = _trusted(self.ca)
        return options

    def _endpoint_of(self, bucket: str) -> str:
        assert self.endpoint is not None
        if self.path_style:
            return self.endpoint
        scheme, host = urlsplit(self.endpoint)[:2]
        return f"{scheme}://{bucket}.{host}"


@lru_cache(maxsize=16)
def _trusted(ca: Path) -> str:
    """A file of the certificates that were trusted so far and of these."""
    usual = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    parts = [Path(usual).read_bytes()] if usual and Path(usual).is_file() else []
    try:
        parts.append(ca.read_bytes())
    except OSError as error:
        raise SettingsError(
            f"the certificates of the store cannot be read: {error.strerror}",
            where=f"storage.ca = {str(ca)!r}",
            unchanged="nothing was read or written",
            fix="name a file of certificates (PEM) that can be read",
        ) from error
    made = tempfile.NamedTemporaryFile(prefix="nightrank-ca-", suffix=".pem")  # noqa: SIM115
    atexit.register(made.close)
    made.write(b"\n".join(parts))
    made.flush()
    return made.name


@lru_cache(maxsize=16)
def _files(storage: Storage, _mark: str) -> "S3FileSystem":
    from s3fs import S3FileSystem
    from s3fs.core import set_custom_error_handler

    set_custom_error_handler(_can_pass)  # s3fs by itself gives up where a store failed
    for name in ("botocore", "aiobotocore"):
        # what they say of a request, to whoever asks them for all, quotes its key and signature
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))
    key, secret, token = storage.credentials()
    style = "path" if storage.path_style else "virtual"
    made = S3FileSystem(
        key=key,
        secret=secret,
        token=token,
        endpoint_url=storage.endpoint,
        use_listings_cache=False,  # others write there too
        skip_instance_cache=True,
        client_kwargs={
            "region_name": storage.region,
            **({} if storage.ca is None else {"verify": _trusted(storage.ca)}),
        },
        config_kwargs={
            "s3": {"addressing_style": style},
            "connect_timeout": 10,
            "retries": {"total_max_attempts": 1},  # s3fs tries again itself
            # newer checksums are Amazon's alone
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
    )
    made.retries = TRIES
    return made


def _can_pass(error: Exception) -> bool:
    """Whether a store failed at a request, as it would not at the next."""
    told: dict[str, Any] = getattr(error, "response", None) or {}
    status = told.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in _FAILED_AT or told.get("Error", {}).get("Code") == "RequestTimeout"


@lru_cache(maxsize=16)
def _objects(storage: Storage, bucket: str, _mark: str) -> "DeltaStorageHandler":
    from deltalake.fs import DeltaStorageHandler

    return DeltaStorageHandler(f"s3://{bucket}", storage.delta_options(bucket))


class StoreError(StorageError, OSError):
    """The object store said no."""


class UnreachableError(StoreError, ConnectionError):
    """The object store said nothing; another try can pass."""


class UnclearError(StoreError):
    """The object store failed, or what lies there is not whole: its answer does not say which."""


class TakenError(StoreError):
    """A file is there already that was to be put only if there was none."""


@contextmanager
def asking(storage: Storage, where: str) -> Iterator[None]:
    """Tell what a store said in words of ours.

    Raises FileNotFoundError where there is no such file, StoreError for all else.
    """
    try:
        yield
    except (StorageError, SettingsError):
        raise
    except Exception as error:
        code = code_of(error)
        if isinstance(error, FileNotFoundError) and code != "NoSuchBucket":
            raise FileNotFoundError(f"there is no {where}") from None
        # not with its cause: a traceback would quote what the store answered
        raise refusal(error, storage, where) from None


def told_again(error: Exception) -> StorageError | None:
    """What our reading from a store raised below DuckDB or delta-rs, which hand on its text alone.

    None where something else went wrong.
    """
    found = _TEXT.search(str(error))
    if found is None:
        return None
    kind, what, where, unchanged, fix = (each.strip() for each in found.groups())
    return _KINDS[kind](what, where=where, unchanged=unchanged, fix=fix)


_KINDS = {
    each.__name__: each
    for each in (StorageError, StoreError, UnreachableError, UnclearError, TakenError)
}
_TEXT = re.compile(
    rf"\b({'|'.join(_KINDS)}): (.+)\n  where: (.+)\n  unchanged: (.+)\n  next: (.+)"
)  # as such an error tells itself


def refusal(error: BaseException, storage: Storage, where: str) -> StoreError:
    """What went wrong between us and a store, and which setting mends it."""
    return refusal_of(code_of(error), storage, where)


def refusal_of(code: str, storage: Storage, where: str) -> StoreError:
    """The same, by the store's code."""
    what, fix = _words(code, storage)
    kind = {"Unreachable": UnreachableError, **dict.fromkeys(_TAKEN, TakenError)}
    kind |= dict.fromkeys(_UNCLEAR, UnclearError)
    return kind.get(code, StoreError)(
        what,
        where=where,
        unchanged="what was not written yet stays as it was, and what was served stays served",
        fix=fix,
    )


def code_of(error: BaseException | None) -> str:
    """The store's code for an error, or one of ours for what never reached it."""
    texts = []
    while error is not None:
        texts.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    text = " ".join(texts)
    found = _CODE.search(text)
    if found is not None:
        code = found.group(1) or found.group(2)
        if not code.isdigit():
            return code
    text = _NAMES.sub("", text)
    return next((code for sign, code in _SIGNS if re.search(sign, text)), "")


_SIGNS = (
    (r"(?i)certificate|SSLError|UnknownIssuer", "Certificate"),
    (r"(?i)connect|ConnectTimeout|dns error|error sending request|timed? ?out", "Unreachable"),
    (r"(?i)precondition|\b412\b", "PreconditionFailed"),
    (r"(?i)\bredirect", "PermanentRedirect"),
    (r"\b501\b|NotImplemented", "NotImplemented"),
    (r"\b507\b|No space left", "StorageFull"),
    (r"\b403\b|Forbidden|PermissionError|necessary privileges", "Forbidden"),
    (r"\b50[0-9]\b|InternalError|ServiceUnavailable|SlowDown", "InternalError"),
)
_TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")
_UNCLEAR = ("", "NoSuchKey")
_UNKNOWN_TOKEN = ("InvalidToken", "ExpiredToken", "TokenRefreshRequired")
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint")
_FULL = ("StorageFull", "XMinioStorageFull", "QuotaExceeded", "InsufficientStorage")


def _words(code: str, storage: Storage) -> tuple[str, str]:
    """What happened and what mends it, by the store's code."""
    names = f"{storage.key} and {storage.secret}"
    others = "or let storage.key and storage.secret name others"
    at = storage.address
    if code == "InvalidAccessKeyId":
        has_token = bool(os.environ.get(storage.token))
        also = f"; unset {storage.token} if it is of another key" if has_token else ""
        return (
            f"{at} does not know the key in {storage.key} ({code})",
            f"set the environment variables {names} to a key of that store, {others}{also}",
        )
    if code in _UNKNOWN_TOKEN:
        return (
            f"{at} does not take the token in {storage.token} ({code}): its time is over, or it is "
            "of another key",
            f"set {names} and {storage.token} anew, or let storage.token name another; where the "
            f"key needs no token, unset {storage.token}",
        )
    if code in _ELSEWHERE:
        return (
            f"{at} has this bucket in another region than {storage.region} ({code})",
            "storage.region: name the bucket's",
        )
    if code == "SignatureDoesNotMatch":
        return (
            f"{at} refuses the secret in {storage.secret}: it is not that of the key ({code})",
            f"set the environment variables {names} to a key of that store, {others}",
        )
    if code in ("AccessDenied", "AllAccessDisabled", "Forbidden"):
        return (
            f"the key in {storage.key} may not do this at {at} ({code})",
            f"let its user list, read, write and delete there, set {names} to another, {others}",
        )
    if code in ("NoSuchBucket", "InvalidBucketName"):
        return (
            f"{at} has no such bucket ({code})",
            "make the bucket, or mend paths.lake, paths.landing or storage.endpoint",
        )
    if code in ("NotImplemented", "NotConditional"):
        return (
            f"{at} has no conditional put: of two writers, one would be lost ({code})",
            "storage.endpoint: take a store that refuses a put with If-None-Match where the file "
            "is there; a proxy before it must hand that header on",
        )
    if code in _TAKEN:
        return "another writer put the same file meanwhile", "run the command again"
    if code in _FULL:
        return f"{at} is full ({code})", "make room in the store, then run the command again"
    if code == "RequestTimeTooSkewed":
        return f"the clock of this machine is not that of {at}", "set both by NTP"
    if code == "Unreachable":
        return (
            f"{at} does not answer",
            "start the store, or mend storage.endpoint; then run the command again",
        )
    if code == "Certificate":
        return (
            f"the certificate of {at} is not trusted",
            "storage.ca: name the file of the certificate that signed it",
        )
    return (
        f"{at} failed ({code or 'it did not say why'})",
        "look whether the store is well and has room, then run the command again",
    )


def call(storage: Storage, where: str, method: str, **arguments: Any) -> dict[str, Any]:
    """One request to the store. Raises what `asking` does."""
    with asking(storage, where):
        answer: dict[str, Any] = storage.files().call_s3(method, **arguments)
        return answer
