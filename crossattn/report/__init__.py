"""From results.json to a report.

`document.write_report` puts a report together from blocks (`render.blocks`). Behind the doors:

* `results/` reads results.json: runs, settings, counts, what is missing;
* `stats/` has tests, intervals and comparisons of variants over paired seeds;
* `tables/` and `figures/` turn results into tables of strings and figures of matplotlib;
* `render/` writes blocks as Markdown, HTML, CSV, LaTeX and plain text;
* `prose`, `captions`, `methods` and `summary` hold the words.
"""
