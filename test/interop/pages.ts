/** Steps of the tests of the web page. */
import { join } from 'node:path';
import { expect } from 'vitest';
import { Daemon } from '../e2e/swarm.ts';
import { accessibilityProblems, type Browser, type Page } from './browser.ts';

/** Returns the address of the page of the daemon in a home, as `lora-swarm open --print` prints it. */
export async function addressOf(home: string): Promise<string> {
  const daemon = new Daemon('open', ['open', '--home', home, '--print', '--json']);
  const { url } = await daemon.line('the address', () => true);
  return String(url);
}

/** Opens a page, and collects its errors. */
export async function open(
  browser: Browser,
  address: string,
  width: number,
  colorScheme: 'light' | 'dark' = 'light',
) {
  const page = await browser.newPage({ width, height: 800, colorScheme });
  const errors: string[] = [];
  page.on('pageerror', ({ message }) => errors.push(message));
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  await page.goto(address);
  return { page, errors };
}

/** Shows a view, and waits for its heading. */
export async function show(page: Page, view: string, heading: string): Promise<void> {
  await page.evaluate(`location.hash = ${JSON.stringify(view)}`);
  await page.waitForSelector(`:is(h1, h2):has-text("${heading}")`);
}

/** Saves a picture of the page if the variable SWARM_SCREENSHOTS names a folder. */
export async function screenshot(page: Page, name: string): Promise<void> {
  const folder = process.env.SWARM_SCREENSHOTS;
  if (folder) await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
}

/** Expects that the page is no wider than its window, and breaks no rule of axe. @param what the view, for errors */
export async function expectReadable(page: Page, width: number, what: string): Promise<void> {
  const wide = await page.evaluate<number>('document.documentElement.scrollWidth');
  expect(wide, what).toBeLessThanOrEqual(width);
  expect(await accessibilityProblems(page), what).toEqual([]);
}

/** Clicks a button, types a text into its dialog if one is given, and confirms the dialog. */
export async function confirm(page: Page, button: string, text?: string): Promise<void> {
  await page.click(button);
  await answer(page, text);
}

/** Types a text into the open dialog if one is given, and confirms the dialog. */
export async function answer(page: Page, text?: string): Promise<void> {
  if (text !== undefined) await page.fill('dialog[open] input', text);
  await page.click('dialog[open] button[type=submit]');
  await page.waitForSelector('dialog[open]', { state: 'hidden' });
}

/** Changes a setting of a job in its view of settings. */
export async function change(page: Page, setting: string, value: string, reason: string): Promise<void> {
  await page.click(`button:text-is("Change ${setting}")`);
  await page.fill('dialog[open] label:has-text("New value") input', value);
  await page.fill('dialog[open] label:has-text("Reason") input', reason);
  await page.keyboard.press('Enter');
  await page.waitForSelector('dialog[open]', { state: 'hidden' });
}

/**
 * Presses Tab from the beginning of the page on. Returns the text of each element that gets the focus, and whether the
 * element has an outline, which shows the focus.
 */
export async function walk(page: Page, steps: number): Promise<{ text: string; isMarked: boolean }[]> {
  await page.evaluate('document.body.tabIndex = -1; document.body.focus()');
  const found: { text: string; isMarked: boolean }[] = [];
  for (let i = 0; i < steps; i++) {
    await page.keyboard.press('Tab');
    const focused = `(({ textContent, tagName }, { outlineStyle }) => ({ text: textContent.trim(), isMarked: outlineStyle !== 'none' }))(
      document.activeElement, getComputedStyle(document.activeElement))`;
    found.push(await page.evaluate(focused));
  }
  return found;
}

/**
 * Expects that a table shows all of its columns at once if the page is wide, and at least two if it is narrow, although a
 * name is long.
 */
export async function expectAllColumns(page: Page, width: number): Promise<void> {
  await page.waitForSelector('td.long');
  const wide = await page.evaluate<number>('document.querySelector(".scroll").scrollWidth');
  if (width >= 1280) expect(wide).toBeLessThanOrEqual(width);
  const names = await page.evaluate<number>(
    'Math.max(...[...document.querySelectorAll("td.long")].map((cell) => cell.offsetWidth))',
  );
  expect(names).toBeLessThanOrEqual(Math.max(width / 2, 160));
  const cut =
    '[...document.querySelectorAll("td")].filter((cell) => cell.scrollWidth > cell.clientWidth).length';
  expect(await page.evaluate<number>(cut)).toBe(0);
}

/** Expects that no row of a table is higher than two lines. A button in a row is 36 pixels high. */
export async function expectLowRows(page: Page): Promise<void> {
  const heights = '[...document.querySelectorAll("tbody tr")].map((row) => row.offsetHeight)';
  expect(Math.max(...(await page.evaluate<number[]>(heights)))).toBeLessThan(60);
}

/** Moves a slider of the page with a key. @param place number of the slider, from 0 */
export async function moveSlider(page: Page, place: number, key: 'Home' | 'End'): Promise<void> {
  await page.evaluate(`document.querySelectorAll('input[type=range]')[${place}].focus()`);
  await page.keyboard.press(key);
}

/** Returns the types in a table of events. */
export function eventsShown(page: Page): Promise<string[]> {
  return page.evaluate<string[]>(
    '[...document.querySelectorAll("tbody tr td:nth-child(2)")].map(({ textContent }) => textContent)',
  );
}
