#!/usr/bin/perl
# Names and scores of SpamAssassin's own rules that hit saved mails: one JSON line a mail.
# Usage: spamassassin_hits.pl "TRUSTED NETWORKS" FILE...    No network: local tests only.
use strict;
use warnings;
use Mail::SpamAssassin;

my $networks = shift @ARGV;
# What Debian's init.pre and v*.pre load, as far as local rules over the header need it, so that
# the machine's own /etc/spamassassin makes no difference.
my @plugins = qw(Check HeaderEval RelayEval MIMEEval MIMEHeader HTMLEval BodyEval URIEval DNSEval
    WLBLEval VBounce FreeMail ReplaceTags);
my $engine = Mail::SpamAssassin->new({
    local_tests_only    => 1,
    dont_copy_prefs     => 1,
    site_rules_filename => '/nonexistent',
    userprefs_filename  => '/nonexistent',
    pre_config_text     => join('', map { "loadplugin Mail::SpamAssassin::Plugin::$_\n" } @plugins),
    post_config_text    => "use_bayes 0\n"
        . "clear_trusted_networks\nclear_internal_networks\n"
        . "trusted_networks $networks\ninternal_networks $networks\n",
});
$engine->init(1);

foreach my $file (@ARGV) {
    open(my $handle, '<:raw', $file) or die "$file: $!\n";
    my $text = do { local $/; <$handle> };
    close $handle;
    my $mail = $engine->parse($text);
    my $status = $engine->check($mail);
    my @names = grep { length } split /,/, $status->get_names_of_tests_hit();
    my $pairs = join ', ',
        map { '"' . $_ . '": ' . ($status->{conf}->{scores}->{$_} // 1) } @names;
    print "{$pairs}\n";
    $status->finish();
    $mail->finish();
}
