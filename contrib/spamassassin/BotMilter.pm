# Asks a running botmilter whether the host that a mail came from is a bot.
#
# For sites that run SpamAssassin without the milter.  The host is SpamAssassin's own originating
# relay: the first that trusted_networks does not hold.  Nothing in the mail is believed, so a
# forged X-Bot-Verdict does no good.  Rules are in botmilter-plugin.cf, the protocol is in
# docs/query.md.
#
# The question goes out as soon as the relays are known and the answer is fetched when the first
# rule asks for it, so that the host is looked at while other rules run.  Without an answer in
# time (no daemon, a slow one, garbage) no rule hits, and "spamassassin -D botmilter" says why.
# Off with -L, because the answer takes network tests.

package Mail::SpamAssassin::Plugin::BotMilter;

use strict;
use warnings;

use Errno qw(EAGAIN EINTR EWOULDBLOCK);
use IO::Select;
use IO::Socket::UNIX;
use JSON::PP ();
use Socket qw(MSG_NOSIGNAL SOCK_STREAM);
use Time::HiRes qw(time);

use Mail::SpamAssassin::Logger;
use Mail::SpamAssassin::Plugin;
use Mail::SpamAssassin::Util qw(untaint_file_path);

our @ISA = qw(Mail::SpamAssassin::Plugin);

use constant ANSWER_AT_MOST  => 65536;
use constant REASONS_AT_MOST => 8;       # as many as the header field names
use constant HELO_AT_MOST    => 255;
use constant SENDER_AT_MOST  => 320;

my %IS_JUDGED = (bot => 1, suspect => 1, clean => 1, unknown => 0, exempt => 0);

sub new {
  my ($class, $mailsa) = @_;
  my $self = $class->SUPER::new($mailsa);
  bless($self, ref($class) || $class);
  $self->register_eval_rule($_, $Mail::SpamAssassin::Conf::TYPE_HEAD_EVALS)
    for qw(check_botmilter_label check_botmilter_level check_botmilter_reason);
  $mailsa->{conf}->{parser}->register_commands([
    {
      # where [query] socket in botmilter.toml is
      setting  => 'botmilter_socket',
      default  => '/run/botmilter/query.sock',
      type     => $Mail::SpamAssassin::Conf::CONF_TYPE_STRING,
      is_admin => 1,
    },
    {
      # seconds to wait for the answer; botmilter's own budget is 5
      setting  => 'botmilter_timeout',
      default  => 6,
      type     => $Mail::SpamAssassin::Conf::CONF_TYPE_NUMERIC,
      is_admin => 1,
    },
  ]);
  return $self;
}

# -- the question -------------------------------------------------------------------------------

sub parsed_metadata {
  my ($self, $opts) = @_;
  my $pms = $opts->{permsgstatus};
  return 1 if $self->{main}->{local_tests_only};
  my $relay = $pms->{relays_untrusted}->[0];
  if (!$relay || !$relay->{ip}) {
    dbg('botmilter: no untrusted relay, nobody to ask about');
  } elsif ($relay->{auth}) {
    dbg('botmilter: the relay authenticated, not asked about');
  } else {
    $self->_ask($pms, $relay);
  }
  return 1;
}

sub _ask {
  my ($self, $pms, $relay) = @_;
  my $until = time + $pms->{conf}->{botmilter_timeout};
  my $path = untaint_file_path($pms->{conf}->{botmilter_socket});
  # with a timeout it connects without blocking, also where the daemon's queue is full
  my $socket = eval {
    IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $path, Timeout => 1);
  };
  if (!$socket) {
    dbg("botmilter: no connection to $path: $!");
    return;
  }
  $socket->blocking(0);
  my $line = _question($relay, $pms->get('EnvelopeFrom:addr')) . "\n";
  my $sent = send($socket, $line, MSG_NOSIGNAL);
  if (!defined $sent || $sent != length $line) {
    dbg("botmilter: the question could not be sent: $!");
    return;
  }
  dbg("botmilter: asked about $relay->{ip}");
  $pms->{botmilter} = { socket => $socket, until => $until };
}

sub _question {
  my ($relay, $sender) = @_;
  my %question = (ip => "$relay->{ip}");
  $question{helo} = "$relay->{helo}"
    if length($relay->{helo} // '') && length $relay->{helo} <= HELO_AT_MOST;
  $question{sender} = "$sender"
    if length($sender // '') && length $sender <= SENDER_AT_MOST;
  return JSON::PP->new->ascii->canonical->encode(\%question);
}

# -- the answer ---------------------------------------------------------------------------------

# What was said of the mail's host; undef where nothing was.
sub _said {
  my ($pms) = @_;
  my $asked = $pms->{botmilter} or return;
  if (!exists $asked->{said}) {
    my $text = _receive(delete $asked->{socket}, $asked->{until});
    $asked->{said} = defined $text ? _understood($text) : undef;
  }
  return $asked->{said};
}

# One line, or undef where it does not come in time.
sub _receive {
  my ($socket, $until) = @_;
  my $select = IO::Select->new($socket);
  my $text = '';
  while ($text !~ /\n/) {
    my $left = $until - time;
    if ($left <= 0) {
      dbg('botmilter: no answer in time');
      return;
    }
    next unless $select->can_read($left);
    my $count = sysread($socket, $text, ANSWER_AT_MOST, length $text);
    next if !defined $count && ($!{EAGAIN} || $!{EINTR} || $!{EWOULDBLOCK});
    if (!$count || length $text > ANSWER_AT_MOST) {
      dbg('botmilter: expected one line, got ' . length($text) . ' octets without an end');
      return;
    }
  }
  return $text;
}

# The label, level and reasons in an answer; undef where it is none.
sub _understood {
  my ($text) = @_;
  my $answer = eval { JSON::PP->new->utf8->max_depth(20)->decode((split /\n/, $text)[0] // '') };
  if (ref $answer ne 'HASH') {
    dbg('botmilter: the answer is no JSON object');
    return;
  }
  if (defined $answer->{error}) {
    dbg('botmilter: refused: ' . _plain($answer->{error}));
    return;
  }
  my $label = _plain($answer->{verdict} // '');
  my $score = _plain($answer->{score} // '');
  if (!exists $IS_JUDGED{$label} || ($IS_JUDGED{$label} && $score !~ /^-?[0-9]{1,6}(?:\.[0-9]+)?$/)) {
    dbg("botmilter: the answer has no verdict: '$label', '$score'");
    return;
  }
  dbg("botmilter: $label $score");
  return {
    label   => $label,
    level   => $IS_JUDGED{$label} ? $score : 0,
    reasons => { map { $_ => 1 } _reasons($answer->{reasons}) },
  };
}

# The signals that speak against the host, as the header field names them.
sub _reasons {
  my ($given) = @_;
  my @names;
  for my $reason (ref $given eq 'ARRAY' ? @$given : ()) {
    next if ref $reason ne 'HASH';
    my ($name, $points) = map { _plain($_ // '') } @$reason{qw(signal points)};
    next if $points !~ /^[0-9]{1,6}(?:\.[0-9]+)?$/ || $points <= 0;
    push @names, $name if $name =~ /^[a-z0-9._]{1,60}$/ && $name !~ /^pair\./;
  }
  return @names > REASONS_AT_MOST ? @names[0 .. REASONS_AT_MOST - 1] : @names;
}

# Short printable text, whatever came; nothing for a list, an object, true and false.
sub _plain {
  my ($value) = @_;
  return '' if ref $value;
  my $text = substr("$value", 0, 200);
  $text =~ s/[^\x20-\x7e]/?/g;
  return $text;
}

# -- the rules ----------------------------------------------------------------------------------

sub check_botmilter_label {
  my ($self, $pms, $label) = @_;
  my $said = _said($pms) or return 0;
  return $said->{label} eq $label ? 1 : 0;
}

sub check_botmilter_level {
  my ($self, $pms, $level) = @_;
  my $said = _said($pms) or return 0;
  return $said->{level} >= $level ? 1 : 0;
}

# Any of several.
sub check_botmilter_reason {
  my ($self, $pms, @names) = @_;
  my $said = _said($pms) or return 0;
  return (grep { $said->{reasons}->{$_} } @names) ? 1 : 0;
}

1;
