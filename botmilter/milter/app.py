"""The callbacks: what libmilter tells goes into a :class:`Session`, edits go back.

The only file that imports pymilter.  It uses pymilter's lower module ``milter`` and not the
classes of ``Milter``: one Python call less for each header field, and none of the traps of
``Milter.Base`` (protocol mask inherited through a class attribute, all actions asked for, an
exception in ``negotiate`` that turns every callback on).

What is negotiated: connect, HELO, MAIL, header fields, end of message, all but the last without a
reply, because an answered callback is a round trip of 28 us where an unanswered one costs 7.
Never the recipients, never the body.  Actions: add and change header fields; quarantine only
where the configuration may ask for it.

Nothing here holds or loses a mail but by an action the admin configured for a label.  Our own
exception is logged and the mail passes, as ``unknown`` where the judge failed, else unmarked;
text that pymilter cannot decode (an 8-bit HELO or header name) never reaches Python: the value
counts as not given.  Waiting happens in the judge alone, which has a budget.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import milter

from botmilter.action import Action, Kind
from botmilter.milter.base import Begun, Judge, Judgement, Start, log_line
from botmilter.milter.session import Session, Transaction, forged

log = logging.getLogger(__name__)

ACTIONS = milter.ADDHDRS | milter.CHGHDRS

#: The steps the MTA need not send, less those that an early start listens to.  With DATA comes
#: the end of the header: without it libmilter, for a mail that has no header field at all, takes
#: the end of the mail for out of turn and never answers it.
_UNUSED = milter.P_NORCPT | milter.P_NOBODY | milter.P_NOUNKNOWN
_UNUSED_BY_START: dict[Start, int] = {
    "connect": milter.P_NODATA | milter.P_NOEOH,
    "data": 0,
    "headers": milter.P_NODATA,
}
#: The steps to which we do not reply, less one that must not lie in the MTA's buffer: Postfix
#: writes what wants no answer together with the next that does, at DATA.
_QUIET = (
    milter.P_NR_CONN
    | milter.P_NR_HELO
    | milter.P_NR_MAIL
    | milter.P_NR_DATA
    | milter.P_NR_HDR
    | milter.P_NR_EOH
)

_ANSWERED_BY_START: dict[Start, int] = {"connect": milter.P_NR_CONN, "data": 0, "headers": 0}

#: Longest packet taken from the MTA.  libmilter's 64 kB would cut the connection at one long
#: header field, and with it lose the verdict; MTAs limit a header to far less than this.
_PACKET_LIMIT = 4 * 1024 * 1024


#: So many fields that pass for ours are taken out of a mail.  For each, Postfix reads the header
#: from its beginning: 1,000 take it 0.1 s, 12,000 more than 10 s, and then it refuses the mail.
_FORGED_AT_MOST = 1000


class Context(Protocol):
    """libmilter's side of one connection."""

    def getpriv(self) -> Connection | None: ...
    def setpriv(self, connection: Connection | None) -> None: ...
    def getsymval(self, name: str) -> str | None: ...
    def addheader(self, name: str, value: str, place: int = -1) -> None: ...
    def chgheader(self, name: str, place: int, value: str | None) -> None: ...
    def progress(self) -> None: ...
    def quarantine(self, reason: str) -> None: ...
    def setreply(self, code: str, enhanced: str, text: str) -> None: ...


class Connection(Session):
    """A session and the judgement begun for its mail."""

    __slots__ = ("begun", "reply")

    def __init__(self, reply: int) -> None:
        super().__init__()
        self.reply = reply
        """What the steps that need no reply return: NOREPLY where the MTA agreed to that."""
        self.begun: Begun | None = None

    def abandon(self) -> None:
        """The mail under way is gone or judged."""
        begun, self.begun = self.begun, None
        if begun is not None:
            begun.abandon()


class App:
    """The callbacks over one judge.  Called from many threads, for a connection from one at a
    time."""

    def __init__(
        self, judge: Judge, start: Start, log_mail: Callable[[str], None] | None = log.info
    ) -> None:
        """*log_mail* takes the line for each mail, printable ASCII; None: nobody wants it."""
        self._judge = judge
        self._start = start
        self._log_mail = log_mail
        self.actions = ACTIONS | (milter.QUARANTINE if judge.may_quarantine else 0)
        self._open = 0
        self._judging: set[Connection] = set()
        self._lock = threading.Lock()

    @property
    def open_sessions(self) -> int:
        return self._open

    @property
    def waiting_mails(self) -> int:
        """How many mails are being judged now."""
        return len(self._judging)

    # -- the callbacks, in the order of a session -----------------------------------------------

    def negotiate(self, ctx: Context, options: list[int]) -> int:
        offered_actions, offered_steps = options[:2]
        if offered_actions & ACTIONS != ACTIONS:
            log.error("the MTA does not let us add and delete header fields: nothing is marked")
        elif offered_actions & self.actions != self.actions:
            log.error("the MTA does not let us quarantine: the mails pass, marked")
        quiet = _QUIET & ~_ANSWERED_BY_START[self._start]
        if offered_steps & quiet != quiet:
            quiet = 0
        unused = _UNUSED | _UNUSED_BY_START[self._start]
        options[:] = [offered_actions & self.actions, offered_steps & (unused | quiet), 0, 0]
        self._opened(ctx, milter.NOREPLY if quiet else milter.CONTINUE)
        return int(milter.CONTINUE)

    def connect(self, ctx: Context, host: str, family: int, address: object) -> int:
        connection = self._connection(ctx)
        connection.connected(host, address)
        if self._start != "connect":
            return connection.reply
        self._begin(ctx, connection)
        return int(milter.CONTINUE)

    def hello(self, ctx: Context, helo: str) -> int:
        connection = self._connection(ctx)
        connection.helo = helo
        return connection.reply

    def mail(self, ctx: Context, sender: bytes, *_: bytes) -> int:
        connection = self._connection(ctx)
        connection.begin_mail(sender)
        if self._start == "connect" and connection.begun is None:  # not its first mail
            self._begin(ctx, connection)
        return connection.reply

    def data(self, ctx: Context) -> int:
        connection = self._connection(ctx)
        if self._start == "data":
            self._begin(ctx, connection)
        return connection.reply

    def header(self, ctx: Context, name: str, value: bytes) -> int:
        """Called once for each field, and therefore by libmilter itself, without a guard."""
        connection = ctx.getpriv() or self._connection(ctx)
        connection.headers.append((name, value))
        return connection.reply

    def headers_end(self, ctx: Context) -> int:
        connection = self._connection(ctx)
        if self._start == "headers":
            self._begin(ctx, connection)
        return connection.reply

    def end_of_mail(self, ctx: Context) -> int:
        connection = self._connection(ctx)
        false = forged(connection.headers, self._judge.own_names)
        for name, place in false[-_FORGED_AT_MOST:]:
            ctx.chgheader(name, place, "")
        started = time.monotonic()
        mail = _transaction(connection, ctx)
        self._judging.add(connection)
        judgement = self._judged(ctx, mail, connection.begun)
        self._judging.discard(connection)
        connection.begun = None
        connection.headers = []
        if len(false) > _FORGED_AT_MOST:
            _put_on_top(ctx, judgement, len(false))
        else:
            for name, text in judgement.headers:
                ctx.addheader(name, text)
        if self._log_mail is not None:
            self._log_mail(_line(judgement, mail.hop.id, time.monotonic() - started))
        return _performed(ctx, judgement.action)

    def abort(self, ctx: Context) -> int:
        connection = self._connection(ctx)
        connection.abandon()
        connection.headers = []
        return int(milter.CONTINUE)

    def close(self, ctx: Context) -> int:
        connection = ctx.getpriv()
        if connection is not None:
            ctx.setpriv(None)
            with self._lock:
                self._open -= 1
            connection.abandon()
        return int(milter.CONTINUE)

    def finish(self) -> None:
        """The last session is over."""
        self._judge.close()

    # -- helpers --------------------------------------------------------------------------------

    def _begin(self, ctx: Context, connection: Connection) -> None:
        connection.abandon()
        if self._judge.knows(connection):
            return
        connection.begun = self._judge.begin(_transaction(connection, ctx))

    def _judged(self, ctx: Context, mail: Transaction, begun: Begun | None) -> Judgement:
        try:
            return self._judge.judge(mail, begun, lambda: _go_on_waiting(ctx))
        except Exception:
            log.exception("the mail passes as unknown: judging it failed")
            return self._judge.failed

    def _connection(self, ctx: Context) -> Connection:
        """The connection's state; made here where an old MTA did not negotiate."""
        return ctx.getpriv() or self._opened(ctx, milter.CONTINUE)

    def _opened(self, ctx: Context, reply: int) -> Connection:
        connection = Connection(int(reply))
        ctx.setpriv(connection)
        with self._lock:
            self._open += 1
        return connection


def open_socket(app: App, connection: str, backlog: int) -> None:
    """Register *app* and let libmilter open its listening socket at *connection*.

    *connection* as in ``smfi_setconn``: ``unix:PATH`` or ``inet:PORT@HOST``; a file at PATH is
    removed.  *backlog* connections may wait.  Once for each process.
    """
    milter.set_connect_callback(_guarded(app.connect))
    milter.set_helo_callback(_guarded(app.hello))
    milter.set_envfrom_callback(_guarded(app.mail))
    milter.set_header_callback(app.header)
    # also where it has nothing to do: pymilter itself would reply where we agreed not to, and
    # libmilter complains of that to syslog, for each mail
    milter.set_eoh_callback(_guarded(app.headers_end))
    milter.set_eom_callback(_guarded(app.end_of_mail))
    milter.set_abort_callback(_guarded(app.abort))
    milter.set_close_callback(_guarded(app.close))
    milter.set_flags(app.actions)
    milter.set_exception_policy(milter.CONTINUE)
    milter.setconn(connection)
    milter.setbacklog(backlog)
    milter.register("botmilter", data=_guarded(app.data), negotiate=app.negotiate)
    # pymilter has no call for it; its module is linked to the library that has
    ctypes.CDLL(milter.__file__).smfi_setmaxdatasize(ctypes.c_size_t(_PACKET_LIMIT))
    milter.opensocket(True)


def serve() -> None:
    """Give this thread to libmilter; returns when the process is told to stop (HUP, INT, TERM)
    or the listening socket fails for good."""
    milter.main()


def _guarded(callback: Callable[..., int]) -> Callable[..., int]:
    """*callback*, but whatever goes wrong in it is logged and the mail goes on.

    Where no reply was agreed on libmilter swallows the CONTINUE by itself.
    """

    def guarded(*args: Any) -> int:
        try:
            return callback(*args)
        except Exception:
            log.exception("the mail passes as it is: %s failed", callback.__name__)
            return int(milter.CONTINUE)

    return guarded


def _go_on_waiting(ctx: Context) -> None:
    """Start the MTA's patience anew (``smfi_progress``); one that has gone is met at the end."""
    with suppress(milter.error):
        ctx.progress()


#: What the MTA is told; where nothing stands here, to go on.
_REPLIES: dict[Kind, int] = {
    Kind.REJECT: milter.REJECT,
    Kind.TEMPFAIL: milter.TEMPFAIL,
    Kind.DISCARD: milter.DISCARD,
}


def _performed(ctx: Context, action: Action) -> int:
    """Do what is to be done with a mail; the reply to its end."""
    if action.kind is Kind.QUARANTINE:
        ctx.quarantine(action.text)
    if action.code:
        ctx.setreply(action.code, action.enhanced, action.text)
    return int(_REPLIES.get(action.kind, milter.CONTINUE))


def _put_on_top(ctx: Context, judgement: Judgement, forged_count: int) -> None:
    """Our fields, below the MTA's own line (``smfi_insheader``), where they come first."""
    log.warning(
        "%d fields of a mail pass for ours: the first %d go, and ours stand above the rest",
        forged_count,
        _FORGED_AT_MOST,
    )
    for name, text in reversed(judgement.headers):
        ctx.addheader(name, text, 1)


def _transaction(session: Session, ctx: Context) -> Transaction:
    def macro(name: str) -> str | None:
        try:
            return ctx.getsymval(name)
        except UnicodeDecodeError as error:  # pymilter decodes strictly; the value is there
            return error.object.decode("latin-1")

    try:
        return session.transaction(ctx.getsymval)
    except UnicodeDecodeError:
        return session.transaction(macro)


def _line(judgement: Judgement, queue_id: str | None, spent_s: float) -> str:
    about = log_line({"qid": queue_id or "-"})
    return f"{about} {judgement.log.line} spent_ms={spent_s * 1000:.0f}"
