"""The style sheet of the report: the explorer's, as deploy and pipeline read no files of each other, and the charts."""

STYLE = """\
/* Styles that the explorer and the evaluation report share. */
:root {
  color-scheme: light dark;
  --ink: #1c2530; --quiet: #5b6773; --line: #d8dee5; --ground: #f6f8fa; --paper: #ffffff;
  --blue: #2563a8; --orange: #d97706; --grey: #9aa3ad; --green: #1a7f4b; --red: #c0392b; --amber: #9a6700;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ink: #e6edf3; --quiet: #9da7b3; --line: #30363d; --ground: #161b22; --paper: #0d1117;
    --blue: #6cb0ff; --orange: #f0a24a; --grey: #8b949e; --green: #56d364; --red: #ff8a80; --amber: #e3b341;
  }
}
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 96rem; margin: 0 auto; padding: 1.2rem 1rem 3rem }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .2rem 1.2rem; margin-bottom: 1rem }
header nav { margin-left: auto; display: flex; gap: 1rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .3rem } p { margin: .3rem 0 }
a { color: var(--blue) }
figure { margin: 0; min-width: 0 }
figcaption, .quiet { color: var(--quiet); font-size: .9rem }
table { border-collapse: collapse } td, th { padding: .15rem 1rem .15rem 0; font-variant-numeric: tabular-nums; text-align: left }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .8rem; margin: 1.2rem 0 }
.cards div { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem }
.cards b { display: block; font-size: 1.5rem } .cards span { color: var(--quiet); font-size: .9rem }
.pair { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(28rem, 100%), 1fr)); gap: 1.5rem }
"""  # noqa: E501

PAGE = """\
body { max-width: 84rem }
h3 { font-size: 1rem; margin: 0 0 .2rem }
th { font-weight: 600; vertical-align: bottom } tbody th { font-weight: 400 }
.pair { grid-template-columns: repeat(auto-fill, minmax(min(23rem, 100%), 1fr)) }
.cards { grid-template-columns: repeat(2, 1fr) } @media (min-width: 50rem) { .cards { grid-template-columns: repeat(4, 1fr) } }
.cards span { display: block; line-height: 1.35 } .cards small { display: block; color: var(--ink); margin-top: .25rem; font-size: .9rem }
.table { overflow-x: auto } .table table { white-space: nowrap; font-size: .95rem }
details { margin-top: 2rem } summary { cursor: pointer; font-weight: 600; font-size: 1.15rem }
.verdict { border: 1px solid var(--line); border-left: .5rem solid var(--tone); border-radius: .5rem; padding: .7rem 1rem; margin: 1rem 0 }
.verdict details { margin-top: .4rem } .verdict summary { font-size: 1rem; font-weight: 400 }
.verdict h2 { margin: 0; color: var(--tone) } .verdict ul { margin: .4rem 0; padding-left: 1.2rem }
.verdict dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .6rem 0 0 }
.verdict dt { color: var(--quiet) } .verdict dd { margin: 0; overflow-wrap: anywhere }
.green { --tone: var(--green) } .amber { --tone: var(--amber) } .red { --tone: var(--red) } .unjudged { --tone: var(--quiet) }
svg.chart { display: block; width: 100%; height: auto; max-width: 40rem; font-size: 12px }
.chart text { fill: var(--quiet) } .chart .title, .chart text.level { fill: var(--ink) }
.chart text.level { paint-order: stroke; stroke: var(--paper); stroke-width: 4px }
.chart path { fill: none; stroke-width: 1.8; stroke-linejoin: round } .chart .grid { stroke: var(--line); stroke-width: 1 }
.chart path.level { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 2 3 }
.own { --mark: var(--blue) } .rival { --mark: var(--orange) } .quiet-mark { --mark: var(--grey) } .wrong { --mark: var(--red) } .dark { --mark: var(--ink) }
.chart path[class] { stroke: var(--mark) } .chart path.grid { stroke: var(--line) } .chart path.level { stroke: var(--ink) }
.chart path.band { fill: var(--mark); stroke: none; fill-opacity: .2 } .chart .dashes { stroke-dasharray: 6 4 }
.chart circle { fill: var(--mark); stroke: var(--paper); stroke-width: .8 }
.chart .cells { fill: var(--blue); shape-rendering: crispEdges } .chart .faces { stroke: var(--paper); stroke-width: .4 }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .85rem; color: var(--quiet); min-height: 1.3em }
.legend span::before { content: ""; display: inline-block; width: .8em; height: .8em; border-radius: .2em; background: var(--mark); margin-right: .35em }
.legend .band::before { opacity: .35 } .legend .dots::before { border-radius: 50% }
@media print {
  .cards { grid-template-columns: repeat(4, 1fr) } body { font-size: 10pt; padding: 0; max-width: none } .pair { grid-template-columns: 1fr 1fr 1fr; gap: .6rem }
  figure, .cards div, .verdict, tr { break-inside: avoid } .figures-all { display: none } a { color: inherit }
  .table table { font-size: 8pt }
}
"""  # noqa: E501
