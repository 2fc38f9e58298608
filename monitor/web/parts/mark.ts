import { html } from 'htm/preact';
import type { HealthLevel, HealthMark } from '../../../protocol/api/health.ts';

/** Shapes besides colours, for readers who cannot tell the colours apart. */
const SHAPES: Readonly<Record<HealthLevel, string>> = { green: '●', yellow: '▲', red: '■', grey: '○' };
const WORDS: Readonly<Record<HealthLevel, string>> = {
  green: 'healthy',
  yellow: 'look at it',
  red: 'act',
  grey: 'inactive',
};

/** Shows a health level as a coloured shape with a word, and the rule that decided it. */
export function Mark({ health, short = false }: { health: HealthMark; short?: boolean }) {
  const { level, reason } = health;
  return html`<span class="mark ${level}" title=${reason}
    ><span aria-hidden="true">${SHAPES[level]}</span> <span class=${short ? 'hidden' : ''}>${WORDS[level]}</span></span
  >`;
}
