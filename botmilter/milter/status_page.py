"""The status page's document, with ``$``-places for :class:`string.Template`.

Nothing is loaded: style and picture stand in it, there is no script.
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="60">
<link rel="icon" href="data:,">
<title>botmilter: status</title>
<style>
:root { color-scheme: light dark; --line: #ccc; --dim: #555; --ink: #222; --paper: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --line: #444; --dim: #aaa; --ink: #ddd; --paper: #181818; }
}
body { font: 16px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       margin: 0 auto; padding: 0 1rem 3rem; max-width: 75rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; }
h2 { font-size: 1.25rem; margin: 2rem 0 .8rem; border-bottom: 1px solid var(--line); }
.dim, figcaption, small { color: var(--dim); }
.trouble { border-left: .3rem solid #cc6677; padding-left: .7rem; overflow-wrap: anywhere; }
.pair { display: grid; gap: 0 2rem;
        grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); }
.pair > * { min-width: 0; }
figure { margin: 0; max-width: 36rem; }
svg { width: 100%; height: auto; display: block; }
svg path { stroke: var(--line); stroke-width: .7; }
svg text { font-size: 10px; fill: var(--dim); text-anchor: middle; }
svg text[text-anchor=end] { text-anchor: end; }
svg.bar { width: 8rem; height: .8rem; margin-top: .25rem; }
.bot { fill: #cc6677; background: #cc6677; }
.suspect { fill: #ddcc77; background: #ddcc77; }
.unknown { fill: #999; background: #999; }
.clean { fill: #44aa99; background: #44aa99; }
.exempt { fill: #88ccee; background: #88ccee; }
.legend { list-style: none; margin: 0 0 .8rem; padding: 0; display: flex; flex-wrap: wrap;
          gap: .2rem 1.2rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; margin-right: .4rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line);
         vertical-align: top; }
.long { display: inline-block; min-width: 8rem; overflow-wrap: anywhere; }
.cards td:first-child { white-space: nowrap; }
.cards td:last-child { overflow-wrap: anywhere; }
th.number, td.number { text-align: right; }
@media (max-width: 40rem) {
  th, td { padding-right: .45rem; }
  svg.bar { width: 5rem; }
  .cards thead { display: none; }
  .cards tr { display: block; padding: .4rem 0; border-bottom: 1px solid var(--line); }
  .cards td, .cards td.number { display: block; position: relative; border: 0; text-align: left;
                                padding: .05rem 0 .05rem 8rem; overflow-wrap: anywhere; }
  .cards td::before { content: attr(data-head); position: absolute; left: 0; color: var(--dim); }
}
</style>
</head>
<body>
<h1>botmilter</h1>
<p class="dim">$now, anew every minute</p>
$note
<div class="pair">
<section>$verdicts</section>
<section><h2>Operating systems of bots</h2>$systems</section>
</div>
<div class="pair">
<section><h2>Probes and errors</h2><p class="dim">Since $began</p>$probes<br>$errors</section>
<section><h2>Filter</h2><p class="dim">Now</p>$state</section>
</div>
<h2>Latest bots</h2>
$bots
</body>
</html>
"""
