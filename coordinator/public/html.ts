import { escapeHtml } from '../../common/html.ts';

/** HTML that is safe to put into a page. */
export class Html {
  readonly text: string;

  /** @param text HTML in which all foreign text is escaped */
  constructor(text: string) {
    this.text = text;
  }
}

type Value = Html | string | number | readonly Html[];

/** Template tag for HTML. Escapes each text in it, so that names of nodes cannot become elements. */
export function html(strings: TemplateStringsArray, ...values: readonly Value[]): Html {
  return new Html(strings.reduce((text, string, i) => text + textOf(values[i - 1]!) + string));
}

function textOf(value: Value): string {
  if (value instanceof Html) return value.text;
  if (typeof value === 'object') return value.map(({ text }) => text).join('');
  return escapeHtml(String(value));
}
