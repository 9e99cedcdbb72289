# Sieve (RFC 5228) on botmilter's header: file by label and by level.
#
# X-Bot-Level has one asterisk for each full point, because Sieve compares text; 8 asterisks and
# more are far above the threshold.
require ["fileinto", "mailbox"];

if header :contains "X-Bot-Level" "********" {
    fileinto :create "Junk.Bots";
    stop;
}
if header :matches "X-Bot-Verdict" "bot;*" {
    fileinto :create "Junk";
    stop;
}
if header :matches "X-Bot-Verdict" "suspect;*" {
    fileinto :create "Junk.Suspect";
    stop;
}
