"""The command line: it reads options, calls the same use cases as the API, and turns their refusals into one line
and an exit status (see `output`).

    serve                      the server
    doctor                     what is wrong around it
    data                       `migrate`, `import`, `export`, `postgres`, `sweep`
    demo                       the demo data
    audit                      who changed what, and its old months
    answers                    what needs no database: settings, check-redirect-uri, version, --version
    clients, connections ...   a group of commands a noun, with the words of the API

What commands share is in `options` (how things are named), `session` (the database) and `output` (what is printed).
"""

import errno
import logging
import os
import sys

import typer

from mithril import errors, streams
from mithril.cli import (
    answers,
    audit,
    audit_export,
    clients,
    connections,
    data,
    demo,
    doctor,
    moves,
    output,
    scopes,
    serve,
    session,
    tokens,
    users,
    webhooks,
)
from mithril.database import database, faults
from mithril.database.embedded import EmbeddedError
from mithril.settings import SettingsError

SERVER, DATA, ADMINISTRATION, ANSWERS = "The server", "The data as a whole", "Administration", "Answers"

app = typer.Typer(
    name="mithril",
    help="OAuth 2.0 authorization server and client-connection registry that speaks the API of ESOZ.",
    epilog="Exit status: 0 done, 1 refused or failed, 2 used wrongly, 3 what was named is not there.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(answers.before_any_command)
app.command("serve", rich_help_panel=SERVER)(serve.serve)
app.command("doctor", rich_help_panel=SERVER)(doctor.examine)
app.command("migrate", rich_help_panel=DATA)(data.migrate)
app.command("import", rich_help_panel=DATA)(data.import_)
app.command("export", rich_help_panel=DATA)(data.export)
# What follows the program is its own.
as_given = {"ignore_unknown_options": True, "allow_interspersed_args": False}
app.command("postgres", rich_help_panel=DATA, context_settings=as_given)(data.postgres)
app.add_typer(demo.app, rich_help_panel=DATA)
session.command(app, "sweep", rich_help_panel=DATA)(data.sweep)
app.add_typer(audit.app, rich_help_panel=ADMINISTRATION)
assert moves.app is connections.app, "its commands are of the same group"
assert audit_export.app is audit.app, "as those"
GROUPS = (clients, connections, users, tokens, webhooks)
for group in (*(each.app for each in GROUPS), scopes.roles, scopes.client_types):
    app.add_typer(group, rich_help_panel=ADMINISTRATION)
app.command("check-redirect-uri", rich_help_panel=ANSWERS)(answers.check_redirect_uri)
app.command("settings", rich_help_panel=ANSWERS)(answers.list_settings)
app.command("version", rich_help_panel=ANSWERS)(answers.version)


def main() -> None:
    """Run the command line; refusals become one line on standard error."""
    streams.occupy()
    if sys.argv[1:2] == ["serve"]:  # any other command waits for the reader of its results
        streams.install()
    else:
        logging.getLogger("mithril").addHandler(logging.NullHandler())  # what matters there is an error of the command
    # Bytes of an argument that are no text could be neither stored nor printed again.
    sys.argv = [os.fsencode(argument).decode(errors="replace") for argument in sys.argv]
    if "--check" not in sys.argv:  # `settings --check` has them among its results
        answers.warn_of_misspelt()
    try:
        _run()
    except output.Missing as missing:
        output.fail(str(missing), status=output.MISSING)
    except errors.NotFound:
        output.fail("what was named is not there", status=output.MISSING)
    except errors.ServiceUnavailable as error:
        output.fail(output.one_line(error.detail or str(error)))
    except errors.MithrilError as refusal:
        output.fail(output.problems(refusal))
    except (SettingsError, EmbeddedError, database.SchemaError) as error:
        output.fail("\nmithril: ".join(map(output.one_line, error.args)))
    except faults.ERRORS as error:
        if (reason := faults.reason(error)) is None:
            raise
        output.fail(f"{reason}: {output.one_line(str(error)) or type(error).__name__}")


def _run() -> None:
    """Run a command, and write what it has printed; a reader who has left is no one to tell."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except streams.Unwritable as error:
        if error.errno == errno.EPIPE:
            raise SystemExit(output.REFUSED) from None
        output.fail(f"standard output cannot be written: {error.strerror}")
