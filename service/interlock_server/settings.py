"""What can be configured: the one place that defines each setting.

A setting's name is `INTERLOCK_` and its field's name in capitals: in the environment, in profiles
and in what is shown. How values are found is in `interlock_server.configuration`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from interlock_server.lengths import parse_length
from interlock_server.rules.overdue import PATIENCE, Patience
from interlock_server.storage.options import DatabaseOptions
from interlock_server.storage.tls import TlsMode, TlsOptions

PREFIX = "INTERLOCK_"

GRACE = 15.0
"""Seconds that calls have to end by themselves when the server goes away: longer than any call
should take, shorter than supervisors wait before they kill (systemd 90 s, Kubernetes 30 s)."""

_DATABASE = DatabaseOptions()
_MICROS = 1_000_000


def _usable_url(text: str) -> str:
    if text:
        # SQLAlchemy is loaded only where there is a URL to read.
        from interlock_server.storage.errors import UnusableDatabaseError
        from interlock_server.storage.urls import parse_url

        try:
            parse_url(text)
        except UnusableDatabaseError as error:
            raise ValueError(str(error)) from None
    return text


def _in_capitals(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _in_seconds(value: object) -> object:
    if isinstance(value, str) and value.strip()[-1:].isalpha():
        return parse_length(value)
    return value


def _none_or_an_hour(seconds: float) -> float:
    if 0 < seconds < 3_600:
        raise ValueError("It must be at least an hour (1h), or 0 for none.")
    return seconds


Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Retention = Annotated[
    float,
    Field(ge=0, le=10 * 366 * 86_400, allow_inf_nan=False),
    BeforeValidator(_in_seconds),
    AfterValidator(_none_or_an_hour),
    WithJsonSchema({"type": "string", "format": "length"}),
]
"""A length of time, as `30d` or in seconds; 0: none."""
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_in_capitals)]
DatabaseUrl = Annotated[str, AfterValidator(_usable_url)]


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a setting beside its type, default and description."""

    group: str
    older_names: tuple[str, ...] = ()
    default: str = ""
    """The default in words, where it depends on other settings."""


def _setting(
    group: str, description: str, *, older: Iterable[str] = (), words: str = "", **options: Any
) -> Any:
    made = Field(description=description, **options)
    made.metadata.append(About(group, tuple(older), words))
    return made


class Settings(BaseSettings):
    """The settings of a server and of the command line, with a value each.

    Made by itself it has what it is given, and the defaults: nothing is read.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid")

    home: Path = _setting(
        "Files",
        "The folder of the default database, the admin socket and the profiles.",
        default_factory=lambda: Path.home() / ".interlock",
        words="~/.interlock",
    )

    host: str = _setting(
        "Server", "The address that the server listens on.", default="127.0.0.1", min_length=1
    )
    port: int = _setting(
        "Server",
        "The port that it listens on; 0 stands for any free one.",
        default=4200,
        ge=0,
        le=65535,
    )
    admin_socket: Path | None = _setting(
        "Server",
        "The Unix socket for operators.",
        default=None,
        words="admin.sock in the home folder",
    )
    log_level: LogLevel = _setting(
        "Server", "The least level of log lines that are written.", default="INFO"
    )
    log_json: bool | None = _setting(
        "Server",
        "Whether log lines are JSON.",
        default=None,
        words="yes, unless the output is a terminal",
    )
    shutdown_grace: Seconds = _setting(
        "Server",
        "Seconds that running calls have to end by themselves once the server is told to stop.",
        default=GRACE,
    )

    loops: bool = _setting(
        "Loops",
        "Whether this server may run the loops: dead runs, late runs, pauses that are over, what "
        "is being cancelled. Of several servers on one database, one runs them at a time.",
        default=True,
    )
    loops_period: Annotated[Seconds, Field(ge=0.1)] = _setting(
        "Loops",
        "Seconds after which each loop looks for what is due, if nothing has woken it before. "
        "Where the loops were away for two of them, or the clock was set, runs that are watched "
        "by heartbeats get one more timeout.",
        default=5.0,
    )
    loops_late_after: Seconds = _setting(
        "Loops",
        "Seconds after its time from which a run that nobody has taken is marked Late.",
        default=PATIENCE.late / _MICROS,
    )
    loops_cancelling_timeout: Seconds = _setting(
        "Loops",
        "Seconds after which a run that was told to stop counts as stopped.",
        default=PATIENCE.cancelling / _MICROS,
    )

    log_retention: Retention = _setting(
        "Loops",
        "After how long what came to the log of a run is deleted, whether the run has ended or "
        "not: 30d, 12h, at least 1h. Without it, or with 0, logs stay as long as their runs.",
        default=0.0,
        words="none",
    )

    database_connection_url: DatabaseUrl = _setting(
        "Database",
        "The database, as a URL in SQLAlchemy's form.",
        default="",
        words="interlock.db in the home folder, on SQLite",
        older=["INTERLOCK_API_DATABASE_CONNECTION_URL"],
        repr=False,
    )
    database_password: SecretStr | None = _setting(
        "Database",
        "The password, for a URL without one. Kept apart it can come from a secret store.",
        default=None,
        words="none",
    )
    database_pool_size: int = _setting(
        "Database",
        "Connections for reads. Writes have one of their own.",
        default=_DATABASE.pool_size,
        ge=1,
        le=200,
    )
    database_pool_timeout: Seconds = _setting(
        "Database",
        "Seconds that a read waits for one of them to be free.",
        default=_DATABASE.pool_timeout,
    )
    database_read_timeout: Seconds = _setting(
        "Database",
        "Seconds that one read may take before its caller is told UNAVAILABLE.",
        default=_DATABASE.read_timeout,
    )
    database_statement_timeout: Seconds = _setting(
        "Database",
        "Seconds that one statement of a write may take. PostgreSQL only.",
        default=_DATABASE.statement_timeout,
    )
    database_lock_timeout: Seconds = _setting(
        "Database",
        "Seconds that a write waits for another program's lock; SQLite calls it the busy time-out.",
        default=_DATABASE.lock_timeout,
    )
    database_connect_timeout: Seconds = _setting(
        "Database",
        "Seconds to wait for a connection. PostgreSQL only.",
        default=_DATABASE.connect_timeout,
    )
    database_sqlite_cache_mib: int = _setting(
        "Database",
        "MiB of the database file that each connection may keep in memory. SQLite only.",
        default=_DATABASE.sqlite_cache_mib,
        ge=1,
        le=65_536,
    )

    database_tls_mode: TlsMode | None = _setting(
        "Encryption to PostgreSQL",
        "What is asked of the connection, as `sslmode` of PostgreSQL's own clients. `require` "
        "encrypts, `verify-ca` also checks who signed the certificate, `verify-full` also whose it "
        "is.",
        default=None,
        words="`verify-full` with a CA file, else `prefer`",
    )
    database_tls_ca_file: Path | None = _setting(
        "Encryption to PostgreSQL",
        "The certificates of the CAs to trust (PEM).",
        default=None,
        words="those that the system trusts",
    )
    database_tls_cert_file: Path | None = _setting(
        "Encryption to PostgreSQL",
        "The certificate to show to the database (PEM).",
        default=None,
        words="none",
    )
    database_tls_key_file: Path | None = _setting(
        "Encryption to PostgreSQL",
        "Its private key, without a passphrase (PEM).",
        default=None,
        words="in the certificate's file",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing by itself: `interlock_server.configuration` does, and tells whence."""
        return (init_settings,)

    @property
    def home_folder(self) -> Path:
        """The home folder, in full."""
        return self.home.expanduser().absolute()

    @property
    def database_url(self) -> str:
        """The database: the default one included, and the password filled in. Not to be shown."""
        if not self.database_connection_url:
            return f"sqlite+aiosqlite:///{self.home_folder / 'interlock.db'}"
        if self.database_password is None:
            return self.database_connection_url
        from interlock_server.storage.urls import with_password

        return with_password(
            self.database_connection_url, self.database_password.get_secret_value()
        )

    @property
    def database_options(self) -> DatabaseOptions:
        """How the database is to be used."""
        return DatabaseOptions(
            pool_size=self.database_pool_size,
            pool_timeout=self.database_pool_timeout,
            read_timeout=self.database_read_timeout,
            statement_timeout=self.database_statement_timeout,
            lock_timeout=self.database_lock_timeout,
            connect_timeout=self.database_connect_timeout,
            sqlite_cache_mib=self.database_sqlite_cache_mib,
            tls=TlsOptions(
                mode=self.database_tls_mode,
                ca_file=self.database_tls_ca_file,
                cert_file=self.database_tls_cert_file,
                key_file=self.database_tls_key_file,
            ),
        )

    @property
    def patience(self) -> Patience:
        """How long states may last before the service changes them."""
        return Patience(
            late=round(self.loops_late_after * _MICROS),
            cancelling=round(self.loops_cancelling_timeout * _MICROS),
        )

    @property
    def log_retention_micros(self) -> int:
        """After how many microseconds what came to a log is deleted; 0: it stays."""
        return round(self.log_retention * _MICROS)

    @property
    def admin_socket_path(self) -> Path:
        """The admin socket, the default one included."""
        return (self.admin_socket or self.home / "admin.sock").expanduser().absolute()
