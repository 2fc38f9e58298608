/** Style of the report, for light and dark screens and for paper. */
export const STYLE = `
:root { color-scheme: light dark; --ink: #1c2330; --paper: #fbfbf9; --line: #d9dbe0; --soft: #5d6573; --note: #2563a8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ec; --paper: #14171c; --line: #313741; --soft: #9aa3b0; --note: #8cc0ff; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } h3 { font-size: 1rem; } .soft, dt { color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td, th { text-align: left; vertical-align: top; padding: .25rem .8rem .25rem 0; border-top: 1px solid var(--line); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; font-size: .9em; } .commands { margin-bottom: 1rem; }
svg { max-width: 40rem; width: 100%; } svg text { font-size: 12px; fill: var(--soft); } .axis { stroke: var(--line); fill: none; }
polyline { fill: none; stroke-width: 1.5; } polyline.training { stroke: var(--soft); } polyline.held-out { stroke: var(--note); } circle { fill: var(--note); }
span.training { color: var(--soft); } span.held-out { color: var(--note); }
@media print { :root { color-scheme: light; --ink: #000; --paper: #fff; --line: #bbb; --soft: #444; --note: #1c4f87; } body { margin: 0; max-width: none; font-size: 11px; } .wide { overflow: visible; } tr, svg, dl { break-inside: avoid; } h2, h3 { break-after: avoid; } }
`;
