#!/usr/bin/perl
# SpamAssassin's own reading of the Received chain, timed.  Used by received.py.
# Usage: received.pl "TRUSTED NETWORKS" FILE...
# Reads the files once; then, for each line "whole" or "least" on standard input, goes over all of
# them in that way and answers with the seconds it took and the number of relays it found:
#   whole  as SpamAssassin does it for every mail: message object, status object, all metadata
#   least  message object, Received metadata and trust split, and nothing else
# No rules are loaded, nothing is looked up.
use strict;
use warnings;
use Mail::SpamAssassin;
use Mail::SpamAssassin::PerMsgStatus;
use Mail::SpamAssassin::Message::Metadata;
use Time::HiRes qw(time);

my $networks = shift @ARGV;
my $engine = Mail::SpamAssassin->new({
    local_tests_only   => 1,
    dont_copy_prefs    => 1,
    rules_filename     => '/nonexistent',
    site_rules_filename => '/nonexistent',
    userprefs_filename => '/nonexistent',
    config_text => "clear_trusted_networks\nclear_internal_networks\n"
        . "trusted_networks $networks\ninternal_networks $networks\n",
});
$engine->init(1);

my @mails;
foreach my $file (@ARGV) {
    open(my $handle, '<:raw', $file) or die "$file: $!\n";
    local $/;
    push @mails, scalar <$handle>;
}

$| = 1;
while (my $way = <STDIN>) {
    my $relays = 0;
    my $start = time;
    foreach my $mail (@mails) {
        my $message = $engine->parse($mail, $way eq "whole\n" ? 1 : 0);
        my $metadata;
        if ($way eq "whole\n") {
            my $status = Mail::SpamAssassin::PerMsgStatus->new($engine, $message);
            $message->extract_message_metadata($status);
            $metadata = $message->{metadata};
            $relays += $metadata->{num_relays_trusted} + $metadata->{num_relays_untrusted};
            $status->finish;
        } else {
            $metadata = Mail::SpamAssassin::Message::Metadata->new($message);
            $metadata->parse_received_headers({ main => $engine, conf => $engine->{conf} }, $message);
            $relays += $metadata->{num_relays_trusted} + $metadata->{num_relays_untrusted};
        }
        $message->finish;
    }
    printf "%.6f %d\n", time - $start, $relays;
}
