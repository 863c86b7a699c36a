"""E-mail as a Prefect block: the server itself sends it, so that it needs no worker that lives.

The entry point `prefect.collections` in pyproject.toml makes Prefect's server know it, and with it
the block of calling.py.
"""

import smtplib
from email.message import EmailMessage

import anyio
from prefect.blocks.abstract import NotificationBlock, NotificationError
from pydantic import Field, SecretStr

from tasks.operate.calling import NightrankWebhook

__all__ = ["NightrankMail", "NightrankWebhook"]

TIMEOUT = 20.0  # seconds for a server of mail to answer


class NightrankMail(NotificationBlock):
    """E-mail through a server that speaks SMTP."""

    _block_type_name = "Nightrank Mail"
    _block_type_slug = "nightrank-mail"

    server: str = Field(description="name or address of the server")
    port: int = 25
    starttls: bool = Field(default=False, description="speak in clear, then encrypted")
    sender: str
    recipients: list[str]
    user: str | None = None
    password: SecretStr | None = None

    async def notify(self, body: str, subject: str | None = None) -> None:
        """Send it to all recipients. Raises NotificationError, which Prefect notes."""
        try:
            await anyio.to_thread.run_sync(self.send, body, subject or "nightrank")
        except (OSError, smtplib.SMTPException) as error:
            raise NotificationError(f"{self.server}:{self.port}: {error}") from error

    def send(self, body: str, subject: str) -> None:
        """The same, waiting for it."""
        letter = EmailMessage()
        letter["From"], letter["To"] = self.sender, ", ".join(self.recipients)
        letter["Subject"] = " ".join(subject.split())  # one line: no header of anybody else's
        letter.set_content(body)
        with smtplib.SMTP(self.server, self.port, timeout=TIMEOUT) as server:
            if self.starttls:
                server.starttls()
            if self.user is not None and self.password is not None:
                server.login(self.user, self.password.get_secret_value())
            server.send_message(letter)
