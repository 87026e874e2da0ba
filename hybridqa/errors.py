"""All errors that hybridqa raises on purpose.

HybridQAError
├── InputError                 what the caller gave cannot be used (CLI exit code 2)
│   ├── ConfigError            a settings or policy file
│   ├── SourceError            a file or folder to ingest
│   ├── QuestionError          a question
│   ├── UnknownDocumentError   no document of that id
│   ├── UnknownAdapterError    no adapter of that id
│   ├── UnknownJobError        no job of that id
│   ├── UnknownKeyError        no API key of that id
│   ├── PolicyConflictError    the policy was changed by somebody else meanwhile
│   └── NoLiveAdapterError     an adapter's answer was asked for, and there is none to wear
├── ModelError                 a base model or embedder that cannot be loaded
│   └── FetchError             a download that failed or has the wrong hash
├── AdapterError               an adapter that cannot be used
│   ├── CorruptAdapterError    files differ from the manifest
│   └── AdapterMismatchError   made for another base model
├── DocumentTooLongError       more than the internalizer takes
├── InternalizeError           no adapter could be made of this document
├── StoreError                 the home directory or index is unusable
│   ├── HomeInUseError         another process has it open
│   └── IndexUnavailableError  Qdrant does not answer
├── AccessError                nobody let the caller in
│   ├── UnauthenticatedError   no valid API key
│   └── ForbiddenError         a key that does not allow it
├── OverloadedError            more is being asked than can be answered; try again later
└── StaleDocumentError         the document changed while it was being worked on
"""


class HybridQAError(Exception):
    """Any error raised on purpose; the message names thing, value, limit and remedy."""


class InputError(HybridQAError):
    """What the caller gave cannot be used."""


class ConfigError(InputError):
    """A settings or policy file has an unknown key, a wrong type or a value out of range."""


class SourceError(InputError):
    """A file or folder cannot be ingested."""


class QuestionError(InputError):
    """A question is empty or too long."""


class UnknownDocumentError(InputError):
    """No document of that id."""

    def __init__(self, document_id: str) -> None:
        self.document_id = document_id
        super().__init__(
            f"There is no document `{document_id}`. `hybridqa documents list` shows all ids."
        )


class UnknownAdapterError(InputError):
    """No adapter of that id."""

    def __init__(self, adapter_id: str) -> None:
        self.adapter_id = adapter_id
        super().__init__(
            f"There is no adapter `{adapter_id}`. `hybridqa adapters list` shows all ids."
        )


class UnknownJobError(InputError):
    """No job of that id."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"There is no job `{job_id}`. The list of jobs shows all ids.")


class UnknownKeyError(InputError):
    """No API key of that id."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        super().__init__(f"There is no API key `{key_id}`. `hybridqa keys list` shows all ids.")


class PolicyConflictError(InputError):
    """The policy was changed by somebody else meanwhile."""

    def __init__(self, expected: int, found: int) -> None:
        self.expected, self.found = expected, found
        super().__init__(
            f"The policy has version {found}, not {expected}. Read it again, and put your change "
            "on top of it."
        )


class NoLiveAdapterError(InputError):
    """The caller asked for an adapter's answer, and there is none to wear."""

    def __init__(self, arm: str, document_id: str | None) -> None:
        self.arm, self.document_id = arm, document_id
        what = (
            f"document `{document_id}` has no live adapter" if document_id else "no document fits"
        )
        remedy = (
            "Ingest it with `--internalizer associative`, or ask with `--arm retrieval`."
            if document_id
            else "Name one that was ingested with `--internalizer associative`, or ask with "
            "`--arm retrieval`."
        )
        super().__init__(f"The arm `{arm}` was asked for, but {what}. {remedy}")


class ModelError(HybridQAError):
    """A base model, task adapter or embedder cannot be loaded."""


class FetchError(ModelError):
    """A download failed or does not have the expected hash."""


class AdapterError(HybridQAError):
    """An adapter cannot be used."""


class CorruptAdapterError(AdapterError):
    """The files of an adapter differ from what the manifest recorded, or are foreign."""


class AdapterMismatchError(AdapterError):
    """The adapter was made for another base model."""

    def __init__(self, adapter_id: str, made_for: str, found: str) -> None:
        self.adapter_id, self.made_for, self.found = adapter_id, made_for, found
        super().__init__(
            f"Adapter `{adapter_id[:12]}` was made for the model with fingerprint "
            f"`{made_for[:12]}`, but the loaded model has `{found[:12]}`. Load the model it was "
            "made for, or ingest its document again to make a new adapter."
        )


class DocumentTooLongError(HybridQAError):
    """The document exceeds what the internalizer takes."""

    def __init__(self, document_id: str, tokens: int, limit: int) -> None:
        self.document_id, self.tokens, self.limit = document_id, tokens, limit
        super().__init__(
            f"Document `{document_id}` has {tokens} tokens, limit {limit}. "
            "Split it, or ingest it with `--internalizer none` to answer by retrieval."
        )


class InternalizeError(HybridQAError):
    """No adapter could be made of a document."""


class StoreError(HybridQAError):
    """The home directory, catalog or index is unusable."""


class HomeInUseError(StoreError):
    """Another process has the home directory open."""

    def __init__(self, home: str) -> None:
        self.home = home
        super().__init__(
            f"The home directory `{home}` is in use by another process. "
            "Wait for it, or choose another with `--home DIR`."
        )


class IndexUnavailableError(StoreError):
    """Qdrant does not answer."""


class StaleDocumentError(HybridQAError):
    """The document changed while it was being worked on."""


class AccessError(HybridQAError):
    """Nobody let the caller in."""


class UnauthenticatedError(AccessError):
    """There is no valid API key."""

    challenge = "Bearer"
    """How a key is to be given (RFC 9110)."""


class ForbiddenError(AccessError):
    """The API key does not allow it."""


class OverloadedError(HybridQAError):
    """More is being asked than can be answered; try again later."""

    def __init__(self, what: str, limit: int, retry_after_s: int) -> None:
        self.what, self.limit, self.retry_after_s = what, limit, retry_after_s
        super().__init__(
            f"There are {limit} {what} at work or waiting, which is the limit. Try again in "
            f"{retry_after_s} s."
        )
