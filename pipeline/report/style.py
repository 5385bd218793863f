"""The style sheet of the report, a copy of the explorer's: deploy and pipeline read no files of each other."""

STYLE = """\
/* Styles that the explorer and the evaluation report share. */
:root {
  color-scheme: light;
  --ink: #1c2530; --quiet: #5b6773; --line: #d8dee5; --ground: #f6f8fa;
  --blue: #2563a8; --orange: #d97706; --grey: #9aa3ad; --green: #1a7f4b; --red: #c0392b;
}
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 96rem; margin: 0 auto; padding: 1.2rem 1rem 3rem }
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
