"""Whether those who are to be told of bad nights can be told. Nobody is told anything by this."""

import os
import smtplib
from collections.abc import Iterator
from urllib.parse import urlsplit

from tasks.doctor.findings import Case, Finding, fine, wrong
from tasks.settings import Mail

PATIENCE = 5.0  # seconds that a server of mail has for its first answer


def alerts(case: Case) -> Iterator[Finding]:
    """The variables that [alerts] names are set, and the server of mail answers."""
    told = case.settings.alerts
    if told.webhook is not None:
        yield _variable(case, told.webhook, "alerts.webhook", is_url=True)
    if told.mail is not None:
        if told.mail.password is not None:
            yield _variable(case, told.mail.password, "alerts.mail.password")
        yield _mail(case, told.mail)
    if told.webhook is None and told.mail is None:
        yield fine("nobody is told by webhook or e-mail: alerts stand in Prefect's UI")


def _variable(case: Case, name: str, key: str, *, is_url: bool = False) -> Finding:
    value, where = os.environ.get(name, "").strip(), f"{case.settings_file}: take {key} out"
    if not value:
        return wrong(
            f"{key} names the environment variable {name}, which is not set",
            f"set {name} where nightrank deploy or up is run; or {where}",
        )
    parts = urlsplit(value)
    if is_url and (parts.scheme not in ("http", "https") or not parts.netloc):
        return wrong(f"{name}, which {key} names, holds no URL", f"set {name} to https://...")
    return fine(f"{key}: {name} is set")


def _mail(case: Case, mail: Mail) -> Finding:
    where = f"{mail.server}:{mail.port}"
    try:
        with smtplib.SMTP(mail.server, mail.port, timeout=PATIENCE) as server:
            server.ehlo()
            lacks_tls = mail.starttls and not server.has_extn("starttls")
    except (OSError, smtplib.SMTPException) as error:
        return wrong(
            f"the server of mail {where} does not answer: {type(error).__name__}",
            f"{case.settings_file}: mend alerts.mail.server and alerts.mail.port",
        )
    if lacks_tls:
        return wrong(
            f"the server of mail {where} does not speak encrypted after STARTTLS",
            f"{case.settings_file}: alerts.mail.starttls = false, or name another server",
        )
    return fine(f"the server of mail {where} answers")
