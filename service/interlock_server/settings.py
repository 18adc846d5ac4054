"""What can be configured. Each setting is `INTERLOCK_` and its name in the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"],
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
]


class Settings(BaseSettings):
    """The settings of a server and of the command line."""

    model_config = SettingsConfigDict(env_prefix="INTERLOCK_", extra="ignore")

    home: Path = Field(
        default_factory=lambda: Path.home() / ".interlock",
        description="The folder of the default database and of the admin socket.",
    )
    database_connection_url: str = Field(
        default="",
        description="The database, in SQLAlchemy's form; empty: interlock.db in the home folder.",
    )
    host: str = Field(default="127.0.0.1", description="The address that the server listens on.")
    port: int = Field(default=4200, ge=0, le=65535, description="The port; 0: any free one.")
    admin_socket: Path | None = Field(
        default=None, description="The admin socket; unset: admin.sock in the home folder."
    )
    log_level: LogLevel = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")
    log_json: bool | None = Field(
        default=None, description="Log lines as JSON; unset: where the output is no terminal."
    )

    @property
    def database_url(self) -> str:
        """The database, the default one included."""
        if self.database_connection_url:
            return self.database_connection_url
        return f"sqlite+aiosqlite:///{self.home.expanduser().absolute() / 'interlock.db'}"

    @property
    def admin_socket_path(self) -> Path:
        """The admin socket, the default one included."""
        return (self.admin_socket or self.home / "admin.sock").expanduser().absolute()
