import { styleText } from 'node:util';
import type { Output } from '../context.ts';

export type Style = Parameters<typeof styleText>[0];

/** Colours a text if the output shows colours. */
export function paint({ color }: Pick<Output, 'color'>, style: Style, text: string): string {
  return color ? styleText(style, text, { validateStream: false }) : text;
}
