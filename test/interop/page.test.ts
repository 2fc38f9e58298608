/** The web page of coordinator and node in a real browser. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it as test } from 'vitest';
import { sweepJobs } from '../../index.ts';
import { Daemon, TestSwarm } from '../e2e/swarm.ts';
import { accessibilityProblems, type Browser, openBrowser } from './browser.ts';
import {
  addressOf,
  answer,
  change,
  confirm,
  eventsShown,
  expectAllColumns,
  expectLowRows,
  expectReadable,
  moveSlider,
  open,
  screenshot,
  show,
  walk,
} from './pages.ts';

/** Time for installing and starting the browser. */
const INSTALL_MS = 300_000;
/** The longest name that a node can have, as a hostile node could choose it. */
const EVIL = `<img src=x onerror=alert(1)>${'-x'.repeat(18)}`;

const MINIMAL_PAIRS = fileURLToPath(new URL('../../examples/tasks/minimal-pairs.yaml', import.meta.url));

let browser: Browser | { missing: string };
beforeAll(async () => {
  browser = await openBrowser();
}, INSTALL_MS);
afterAll(() => ('newPage' in browser ? browser.close() : undefined));

function it(name: string, body: (browser: Browser) => Promise<void>): void {
  test(name, async ({ skip }) => {
    if ('missing' in browser) skip(browser.missing);
    else await body(browser);
  });
}

it('shows a job to its operator, who pauses and resumes it', async (browser) => {
  const swarm = await TestSwarm.create();
  await (await swarm.coordinator({ SWARM_REGISTRY: join(swarm.folder, 'registry') })).ready();
  const samples = { prompts: ['It was <b>'], heldOut: 1, every: 1, maxTokens: 12 };
  await swarm.createJob({ rounds: { count: 200, localSteps: 50 }, samples });
  const other = swarm.node('otter').ready();
  await new Daemon(
    'evil',
    swarm.nodeArguments('evil', [swarm.invite]).map((text) => (text === 'evil' ? EVIL : text)),
  ).ready();
  await other;
  await swarm.until('the third round', (event) => event.type === 'checkpoint' && event.round === 3);
  await swarm.until('samples', ({ type }) => type === 'sampled');
  const variants = [{ 'training.learningRate': 1e-4 }, { seed: 3 }];
  await sweepJobs(await swarm.api(), { name: 'race', job: 'tale', variants });

  const peers = await (await swarm.api()).peers();
  const evil = peers.find(({ name }) => name === EVIL)!.peer;
  const address = await addressOf(swarm.home);
  const views = [
    ['#/', 'Sweep race'],
    ['#/jobs/tale', 'Invite'],
    ['#/jobs/tale/peers', 'Peers'],
    [`#/peers/${evil}`, 'Receipts'],
    ['#/jobs/tale/checkpoints', 'Checkpoints'],
    ['#/jobs/tale/samples', 'Samples'],
    ['#/jobs/tale/events', 'Events'],
    ['#/jobs/tale/replay', 'Replay'],
    ['#/jobs/tale/settings', 'Settings'],
    ['#/new', 'What the job will be'],
    ['#/health', 'Health rules'],
  ] as const;
  for (const [width, scheme] of [
    [1280, 'light'],
    [360, 'dark'],
  ] as const) {
    const { page, errors } = await open(browser, address, width, scheme);
    for (const [view, heading] of views) {
      await show(page, view, heading);
      await expectReadable(page, width, view);
      if (heading === 'Checkpoints') await expectLowRows(page);
      if (heading === 'Peers') await expectAllColumns(page, width);
      expect(await page.evaluate<number>('document.querySelectorAll("dialog").length')).toBe(0);
      await screenshot(page, `${view.split('/').at(-1)}-${width}`);
    }
    await show(page, '#/jobs/tale', 'Invite');
    await page.click('button:text-is("Stop")');
    await page.waitForSelector('dialog[open]');
    await expectReadable(page, width, 'an open dialog');
    await page.keyboard.press('Escape');
    await page.waitForSelector('dialog', { state: 'hidden' });
    // The button that opened the dialog has the focus again.
    expect(await page.evaluate<string>('document.activeElement.textContent')).toBe('Stop');
    // The token is in the tab's storage, and no longer in the address.
    expect(await page.evaluate<string>('location.href')).not.toContain('token');
    expect(errors).toEqual([]);
  }

  const { page, errors } = await open(browser, address, 1280);
  await show(page, '#/jobs/tale', 'Invite');
  await page.waitForSelector('.chart canvas');
  const stops = await walk(page, 13);
  expect(stops.map(({ text }) => text)).toEqual(
    [
      'Skip to the content',
      'Jobs',
      'New job',
      'Health rules',
      'Overview',
      'Peers',
      'Checkpoints',
      'Samples',
    ].concat(['Events', 'Replay', 'Settings', 'Pause', 'Stop']),
  );
  expect(stops.filter(({ isMarked }) => !isMarked)).toEqual([]);
  await walk(page, 1);
  await page.keyboard.press('Enter');
  expect(await page.evaluate<string>('document.activeElement.id')).toBe('main');

  await show(page, '#/jobs/tale/replay', 'Replay');
  await page.waitForSelector('dd:has-text("2: ")');
  expect(await page.textContent('dl.facts')).toContain(EVIL);
  await moveSlider(page, 0, 'Home');
  await page.waitForSelector('label:has-text("Round 1,")');
  await page.waitForSelector('td:text-is("checkpoint")');
  await moveSlider(page, 1, 'Home');
  await page.waitForSelector('td:text-is("checkpoint")', { state: 'hidden' });
  expect(await eventsShown(page)).toEqual(['round-opened']);
  await moveSlider(page, 1, 'End');
  await page.waitForSelector('td:text-is("checkpoint")');

  await show(page, '#/jobs/tale/events', 'Events');
  await page.waitForSelector('td:text-is("checkpoint")');
  await page.click('label:has-text("Updates") input');
  await page.waitForSelector('td:text-is("checkpoint")', { state: 'hidden' });
  await page.waitForSelector('tr:nth-child(6) td:text-is("update")');
  await page.fill('input[type=search]', 'otter');
  await page.waitForSelector('tr:has-text("onerror")', { state: 'hidden' });
  const types = new Set(await eventsShown(page));
  expect([...types].filter((type) => !['update', 'update-undone'].includes(type))).toEqual([]);
  expect(types).toContain('update');

  await show(page, '#/jobs/tale/peers', 'Peers');
  await page.waitForSelector('td:has-text("otter")');
  expect(await page.textContent('table')).toContain(EVIL);
  expect(await page.evaluate<number>('document.querySelectorAll("td img").length')).toBe(0);

  await show(page, '#/jobs/tale/samples', 'Samples');
  await page.waitForSelector('h4:has-text("Before: the base")');
  expect(await page.textContent('.sample blockquote')).toBe('It was <b>');
  expect(await page.evaluate<number>('document.querySelectorAll(".sample .pair blockquote").length')).toBe(4);

  await show(page, '#/jobs/tale', 'Invite');
  await page.waitForSelector('.chart canvas');
  await page.click('button:has-text("Pause")');
  await page.fill('dialog[open] input', 'lunch');
  // The dialog has the focus, and the Enter key confirms it.
  await page.keyboard.press('Enter');
  await page.waitForSelector('button:has-text("Resume")');
  const events = await swarm.until('the pause', ({ type }) => type === 'paused');
  expect(events.at(-1)).toMatchObject({ type: 'paused', reason: 'lunch' });
  await show(page, '#/jobs/tale/checkpoints', 'Checkpoints');
  await page.click('tbody tr:nth-child(1) button:has-text("Tag")');
  await page.fill('dialog[open] input', 'no tag!');
  await page.keyboard.press('Enter');
  await page.waitForSelector('dialog[open] [role=alert]');
  // The API answers with status 400, which the browser reports in its console.
  expect(errors.splice(0)).toHaveLength(1);
  await page.fill('dialog[open] input', 'stable');
  await page.keyboard.press('Enter');
  await page.waitForSelector('tbody tr:nth-child(1) .tag:has-text("stable")');
  await page.click('tbody tr:nth-child(2) button:has-text("Tag")');
  await page.fill('dialog[open] input', 'stable');
  await page.keyboard.press('Enter');
  await page.waitForSelector('tbody tr:nth-child(2) .tag:has-text("stable")');
  await page.waitForSelector('tbody tr:nth-child(1) .tag:has-text("stable")', { state: 'hidden' });
  // The checkpoint of the first row is later, so it keeps the tag "latest".
  expect(await page.textContent('tbody tr:nth-child(1) .tag')).toBe('latest');
  await show(page, '#/jobs/tale', 'Invite');
  await page.click('button:has-text("Resume")');
  await page.click('dialog[open] button[type=submit]');
  await swarm.until('the job goes on', ({ type }) => type === 'resumed');

  await show(page, '#/jobs/tale/settings', 'Manifest');
  await change(page, 'rounds', '300', 'it still gets better');
  await page.waitForSelector('tr:has(td:has-text("200 → 300")):has(td:text-is("it still gets better"))');
  await change(page, 'priority', '7', 'urgent');
  const [priority] = (await swarm.until('the priority', ({ type }) => type === 'priority-changed')).slice(-1);
  expect(priority).toMatchObject({ before: 0, after: 7, reason: 'urgent' });

  const talk = join(swarm.folder, 'talk.jsonl');
  const messages = ['user', 'assistant'].map((role) => ({ role, content: 'It was a dark night.' }));
  await writeFile(talk, `${JSON.stringify({ messages })}\n`.repeat(40));
  await show(page, '#/new', 'What the job will be');
  for (const [label, text] of [
    ['Name', 'talk'],
    ['Base model', join(swarm.folder, 'model')],
    ['Training data', talk],
  ] as const) {
    await page.fill(`label:has-text("${label}") input`, text);
  }
  await page.click('summary:has-text("Further settings")');
  await page.fill('details textarea', '{"training": {"sequenceLength": 32}}');
  await page.click('button:text-is("Check")');
  await page.waitForSelector('[role=alert]:has-text("data.template")');
  await page.fill('label:has-text("Chat template") input', 'plain');
  await page.evaluate(`{
    const select = document.querySelector('select');
    select.value = 'tale latest';
    select.dispatchEvent(new Event('change', { bubbles: true }));
  }`);
  await page.click('button:text-is("Check")');
  await page.waitForSelector('dt:has-text("Held-out data")');
  await page.click('button:text-is("Create the job")');
  await page.waitForSelector('h1:has-text("talk")');
  // The form does not set LoRA settings, so the new job has those of the checkpoint from which it starts.
  const jobs = await swarm.api();
  const [tale, created] = await Promise.all(['tale', 'talk'].map((name) => jobs.job(name)));
  const { rank, alpha } = tale!.manifest.lora;
  expect(created!.manifest.lora).toMatchObject({ rank, alpha });
  expect(created!.manifest.adapter.initial).not.toEqual(tale!.manifest.adapter.initial);

  const versions = Promise.withResolvers<void>();
  await page.route('**/versions', (route) => versions.promise.then(() => route.continue()));
  await show(page, '#/jobs/tale/checkpoints', 'Checkpoints');
  await page.click('tbody tr:nth-child(3) button:text-is("Roll back")');
  versions.resolve();
  await page.waitForSelector('th:has-text("Version and tags")');
  await answer(page, 'it repeats itself');
  await swarm.until(
    'the roll-back',
    (event) => event.type === 'rolled-back' && event.reason.includes('it repeats itself'),
  );
  await show(page, `#/peers/${evil}`, 'Bans');
  await confirm(page, 'button:text-is("Ban")', 'spam');
  await page.waitForSelector('td:has-text("spam")');
  await confirm(page, 'button:text-is("Pardon")');
  await swarm.until('the pardon', ({ type }) => type === 'pardoned');
  await show(page, '#/jobs/tale', 'Invite');
  await confirm(page, 'button:text-is("Stop")', 'enough');
  await swarm.until('the end', ({ type }) => type === 'finished');
  await page.waitForSelector('p:has-text("stopped")');
  expect(errors).toEqual([]);
});

it('draws the figures of the tasks of a job, whose operator changes how often they are computed', async (browser) => {
  const swarm = await TestSwarm.create();
  await (await swarm.coordinator({ SWARM_REGISTRY: join(swarm.folder, 'registry') })).ready();
  const tasks = { files: MINIMAL_PAIRS, every: 1, metric: 'minimal_pairs.acc', limit: 4 };
  await swarm.createJob({ rounds: { count: 200, localSteps: 20, minPeers: 1 }, tasks });
  await swarm.node('otter').ready();
  await swarm.until('two results', (event) => event.type === 'tasks-evaluated' && event.round === 2);
  for (const width of [1280, 360]) {
    const { page, errors } = await open(browser, await addressOf(swarm.home), width);
    await show(page, '#/jobs/tale', 'Invite');
    const chart = 'figure:has(figcaption:has-text("minimal_pairs.acc"))';
    await page.waitForSelector(`${chart} canvas`);
    await page.click(`${chart} summary`);
    const row = `${chart} tr:has(td:first-child:text-is("2"))`;
    await page.waitForSelector(row);
    // The value is a fraction of four documents.
    expect(await page.textContent(`${row} td:last-child`)).toMatch(/^(0\.(00|25|50|75)|1\.0)0+$/);
    await expectReadable(page, width, 'a chart of figures');
    await show(page, '#/jobs/tale/checkpoints', 'Checkpoints');
    await page.waitForSelector('.tag:text-is("latest")');
    await expectLowRows(page);
    expect(errors).toEqual([]);
  }
  const { page } = await open(browser, await addressOf(swarm.home), 1280);
  await show(page, '#/jobs/tale/settings', 'Manifest');
  await change(page, 'checkpoints per evaluation on the tasks', '5', 'too slow');
  const events = await swarm.until('the change', ({ type }) => type === 'tasks-changed');
  expect(events.at(-1)).toMatchObject({ before: 1, after: 5, reason: 'too slow' });
});

it('shows a node to its owner, who sets a limit, pauses the node and drains it', async (browser) => {
  const swarm = await TestSwarm.create();
  await (await swarm.coordinator()).ready();
  await swarm.createJob({ rounds: { count: 500, localSteps: 20, minPeers: 1 } });
  const otter = await swarm.node('otter').ready();
  const node = await open(browser, await addressOf(swarm.homeOf('otter')), 360);
  await node.page.waitForSelector('h1:has-text("otter")');
  await node.page.waitForSelector('h2:has-text("Job tale")');
  for (const fact of ['Contributed', 'Costs now', 'Standing']) {
    await node.page.waitForSelector(`dt:has-text("${fact}")`);
  }
  await node.page.waitForSelector('tr:has(td:text-is("tale")):has(td:text-is("accepted, merged"))');
  expect(await node.page.textContent('dt:text-is("Traffic") + dd')).toMatch(
    /\d [kMG]?B\b.*\d [kMG]?B\b.*; .*\d/s,
  );
  await expectReadable(node.page, 360, 'a node');
  await screenshot(node.page, 'node-360');
  const wide = await open(browser, await addressOf(swarm.homeOf('otter')), 1280, 'dark');
  await wide.page.waitForSelector('h2:has-text("Jobs so far")');
  await expectReadable(wide.page, 1280, 'a node');
  await node.page.click('button:has-text("Change max-upload")');
  await node.page.fill('dialog[open] input', 'fast');
  await node.page.keyboard.press('Enter');
  await node.page.waitForSelector('dialog[open] [role=alert]');
  await node.page.fill('dialog[open] input', '2.5');
  await node.page.keyboard.press('Enter');
  await node.page.waitForSelector('dd:has-text("2.5 MB/s")');
  await node.page.click('button:text-is("Pause")');
  await node.page.fill('dialog[open] input', '30');
  await node.page.keyboard.press('Enter');
  await node.page.waitForSelector('button:text-is("Resume")');
  await swarm.until('the pause of the node', ({ type }) => type === 'peer-held');
  await node.page.click('button:text-is("Resume")');
  await node.page.click('dialog[open] button[type=submit]');
  await node.page.waitForSelector('button:text-is("Pause")');
  await node.page.click('button:text-is("Drain")');
  await node.page.click('dialog[open] button[type=submit]');
  expect((await otter.exited).code).toBe(0);
  // After the drain, the page cannot reach the daemon, and the browser reports that.
  expect(node.errors.filter((text) => !text.includes('ERR_'))).toEqual([]);
});

it('shows a job to everyone on its public page, which runs no script', async (browser) => {
  const swarm = await TestSwarm.create();
  const coordinator = await (await swarm.coordinator({}, ['--public-page', '127.0.0.1:0'])).ready();
  const { publicPage } = coordinator.lines.find(({ event }) => event === 'ready')!;
  await swarm.createJob({ rounds: { count: 200, minPeers: 1 } });
  await new Daemon(
    'evil',
    swarm.nodeArguments('evil', [swarm.invite]).map((text) => (text === 'evil' ? EVIL : text)),
  ).ready();
  await swarm.until('the third round', (event) => event.type === 'checkpoint' && event.round === 3);
  for (const [width, scheme] of [
    [1280, 'light'],
    [360, 'dark'],
  ] as const) {
    const { page, errors } = await open(browser, `${publicPage}/`, width, scheme);
    expect(await accessibilityProblems(page)).toEqual([]);
    await page.click('a:has-text("tale")');
    await page.waitForSelector('h2:has-text("Contributors")');
    expect(await page.textContent('table:has-text("share")')).toContain(EVIL);
    expect(await page.evaluate<number>('document.querySelectorAll("td img").length')).toBe(0);
    expect(await page.textContent('pre')).toContain('lora-swarm node swarm1');
    expect(await page.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(width);
    expect(await accessibilityProblems(page)).toEqual([]);
    expect(errors).toEqual([]);
    await screenshot(page, `page-public-${width}`);
  }

  const path = /\/jobs\/tale\/receipts\/\w+\.json/.exec(
    await (await fetch(`${publicPage}/jobs/tale`)).text(),
  )![0];
  const file = join(swarm.folder, 'receipts.json');
  await writeFile(file, await (await fetch(`${publicPage}${path}`)).text());
  const verify = new Daemon('verify', ['verify', file, '--job', swarm.job, '--json']);
  const { updates } = await verify.line('the result', ({ ok }) => ok === true);
  expect(updates).toBeGreaterThanOrEqual(3);
});

it('asks for the token if the address has none, and refuses a wrong one', async (browser) => {
  const swarm = await TestSwarm.create();
  const coordinator = await (await swarm.coordinator()).ready();
  const { api } = coordinator.lines.find(({ event }) => event === 'ready')!;
  const { page } = await open(browser, `${api}/`, 1280);
  await page.waitForSelector('input[type=password]');
  expect(await accessibilityProblems(page)).toEqual([]);
  await page.fill('input[type=password]', 'wrong');
  await page.click('button[type=submit]');
  await page.waitForSelector('input[type=password]');
  await page.fill('input[type=password]', await readFile(join(swarm.home, 'api-token'), 'utf8'));
  await page.click('button[type=submit]');
  await page.waitForSelector('h1:has-text("Jobs")');
});
