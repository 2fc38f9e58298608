/** A real browser: Chromium from an npm package. It runs on Linux x64; elsewhere its tests are skipped. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const FOLDER = join(import.meta.dirname, 'browser');
/** Time for installing the browser: about 70 MB. */
const INSTALL_MS = 300_000;

/** The part of Playwright's `Page` that the tests use. */
export interface Page {
  goto(url: string): Promise<unknown>;
  click(selector: string): Promise<void>;
  fill(selector: string, text: string): Promise<void>;
  waitForSelector(selector: string, options?: { state?: 'attached' | 'hidden' }): Promise<unknown>;
  textContent(selector: string): Promise<string | null>;
  evaluate<T>(code: string): Promise<T>;
  keyboard: { press(key: string): Promise<void> };
  screenshot(options: { path: string; fullPage?: boolean }): Promise<unknown>;
  route(url: string, answer: (route: { continue(): Promise<void> }) => Promise<void>): Promise<void>;
  on(event: 'pageerror', listener: (error: Error) => void): void;
  on(event: 'console', listener: (message: { type(): string; text(): string }) => void): void;
}

export interface PageOptions {
  width: number;
  height: number;
  colorScheme: 'light' | 'dark';
}

export interface Browser {
  newPage(options: PageOptions): Promise<Page>;
  close(): Promise<void>;
}

/** A violation of the rules of axe. */
interface Violation {
  id: string;
  help: string;
  nodes: { html: string }[];
}

/** Starts the browser, which is installed on first use. Returns the reason if it cannot run on this machine. */
export async function openBrowser(): Promise<Browser | { missing: string }> {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return { missing: 'the browser of the tests runs on Linux x64 only' };
  if (!existsSync(join(FOLDER, 'node_modules', 'playwright-core'))) {
    const install = ['ci', '--ignore-scripts', '--no-audit', '--no-fund'];
    const failed = await run('npm', install, { cwd: FOLDER, timeout: INSTALL_MS }).then(
      () => null,
      (error: Error) => error.message.trim().split('\n').at(-1)!,
    );
    if (failed !== null) return { missing: `the browser cannot be installed: ${failed}` };
  }
  const { resolve } = createRequire(join(FOLDER, 'package.json'));
  // Playwright is a CommonJS module, so its exports are in `default`.
  const { default: playwright } = await import(pathToFileURL(resolve('playwright-core')).href);
  const { default: files } = await import(pathToFileURL(resolve('@sparticuz/chromium')).href);
  const browser = await playwright.chromium.launch({
    executablePath: await files.executablePath(),
    args: files.args,
  });
  return {
    newPage: ({ width, height, colorScheme }) =>
      browser.newPage({ viewport: { width, height }, colorScheme }),
    close: () => browser.close(),
  };
}

/** Returns what axe finds wrong with the page, one line each. */
export async function accessibilityProblems(page: Page): Promise<string[]> {
  const { resolve } = createRequire(join(FOLDER, 'package.json'));
  const axe = await readFile(resolve('axe-core/axe.min.js'), 'utf8');
  // The content security policy of the page refuses other scripts, so the debugger runs axe.
  const violations = await page.evaluate<Violation[]>(
    `(async () => { ${axe}; return (await axe.run()).violations; })()`,
  );
  return violations.map(
    ({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html).join(' ')}`,
  );
}
