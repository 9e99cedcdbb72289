"""The report's page, with ``$``-places for :class:`string.Template`.

Nothing is loaded: style and pictures stand in it, there is no script, and the policy in its head
forbids the browser the rest.
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>Survey: $names</title>
<style>
:root { color-scheme: light; }
body { font: 16px/1.45 system-ui, sans-serif; color: #222; background: #fff;
       margin: 0 auto; padding: 0 1rem 3rem; max-width: 75rem; }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc; }
h3 { font-size: 1rem; margin-bottom: .4rem; }
h2, h3 { break-after: avoid; }
.pictures { display: grid; gap: 1.5rem;
            grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); }
figure { margin: 0; max-width: 34rem; break-inside: avoid; }
figcaption { font-weight: 600; margin-bottom: .3rem; }
svg { width: 100%; height: auto; display: block; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid #e4e4e4;
         vertical-align: top; }
th.number, td.number { text-align: right; }
tr { break-inside: avoid; }
@media screen and (max-width: 40rem) {
  table { font-size: .8125rem; }
  th, td { padding-right: .45rem; }
  .cards thead { display: none; }
  .cards tr { display: block; padding: .4rem 0; border-bottom: 1px solid #ccc; }
  .cards td { display: flex; gap: .6rem; border: 0; padding: .05rem 0; overflow-wrap: anywhere; }
  .cards td:empty { display: none; }
  .cards td::before { content: attr(data-head); flex: 0 0 8.5rem; color: #555; }
}
@media print {
  body { font-size: 10pt; max-width: none; padding: 0; }
  .table { overflow: visible; }
  table { font-size: 8pt; }
  .pictures { grid-template-columns: 1fr 1fr; }
}
</style>
</head>
<body>
<h1>Survey: $names</h1>
<p>$intro</p>
<section class="pictures">
$pictures
</section>
<h2>Hosts by operating system, as the study of 2009 counted them</h2>
<p>Hosts that nmap could name. What fits a client and a server alike stands with the servers.</p>
$study
<h2>Hosts that were called bot or suspect</h2>
$flagged
<h2>From run to run</h2>
$churn
$places
<h2>All shares</h2>
$shares
</body>
</html>
"""
