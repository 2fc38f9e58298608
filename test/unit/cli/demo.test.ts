import { mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { partOf, prepareData } from '../../../cli/demo/data.ts';
import type { DemoEvent } from '../../../cli/demo/events.ts';
import { demoFolder } from '../../../cli/demo/folder.ts';
import { Tally } from '../../../cli/demo/tally.ts';
import { DemoView } from '../../../cli/demo/view.ts';
import type { JobEvent } from '../../../protocol/api/job-events.ts';

const PEERS = ['a', 'b'].map((c) => `12D3KooW${c.repeat(44)}`);
let sequence = 0;
const event = (body: object): JobEvent => ({ sequence: ++sequence, at: 0, job: 'j', ...body }) as JobEvent;

/** Events of a round with two updates. */
function round(number: number, heldOutLoss: number): JobEvent[] {
  const update = { type: 'update', round: number, code: 'accepted', detail: '', tokens: 800, seconds: 2 };
  return [
    event({ type: 'round-opened', round: number, peers: 2, preset: 'dense', deadlineMs: 1 }),
    ...PEERS.map((peer) => event({ ...update, peer, bytes: 500 })),
    event({ type: 'round-closed', round: number, updates: 2, assigned: 2, cause: 'complete' }),
    event({
      type: 'checkpoint',
      round: number,
      digest: 'd',
      heldOutLoss,
      updates: 2,
      tokens: 1600,
      tokensPerSecond: 700,
      updateBytes: 1000,
      seconds: 3,
    }),
  ];
}

describe("the demo's data", () => {
  it('has every chapter in one part, and not the copy of the whole book', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'swarm-data-'));
    const data = await prepareData(dir, { cwd: '/' });
    const parts = ['train', 'heldOut', 'test'] as const;
    const [train, heldOut, test] = parts.map((part) => readdirSync(data[part])) as [
      string[],
      string[],
      string[],
    ];
    expect(data.chapters).toEqual({ train: train.length, heldOut: heldOut.length, test: test.length });
    expect(train.length + heldOut.length + test.length).toBe(135);
    expect(Math.min(heldOut.length, test.length)).toBeGreaterThanOrEqual(10);
    for (const [i, names] of [train, heldOut, test].entries()) {
      for (const name of names) {
        expect(name, name).toMatch(/^chapter-\d{3}\.txt$/);
        expect(partOf(Number(name.slice(8, 11))), name).toBe(parts[i]);
      }
    }
    for (const [part, chapter] of [
      ['heldOut', 'chapter-010.txt'],
      ['test', 'chapter-035.txt'],
    ] as const) {
      const passage = readFileSync(join(data[part], chapter), 'utf8').slice(2000, 2200);
      for (const name of train) {
        expect(readFileSync(join(data.train, name), 'utf8').includes(passage), name).toBe(false);
      }
    }
  });

  it('goes into a new folder every time', async () => {
    const cwd = mkdtempSync(join(tmpdir(), 'swarm-cwd-'));
    const folders = await Promise.all([1, 2, 3].map(() => demoFolder(cwd, 1_700_000_000_000)));
    expect(new Set(folders).size).toBe(3);
    expect(folders.sort()[0]).toBe(join(cwd, '.swarm', 'demo-20231114-221320'));
  });
});

describe("the demo's tally", () => {
  it('counts rounds, nodes and bytes per parameter', () => {
    const tally = new Tally();
    for (const each of [...round(1, 4.6), ...round(2, 4.5)]) tally.add(each);
    tally.add(event({ type: 'update', round: 2, peer: 'x', code: 'malformed', bytes: 9e9 }));
    expect({ peers: tally.peers.size, rounds: tally.rounds }).toEqual({ peers: 2, rounds: 2 });
    expect(tally.bytesPerParameterPerRound(1000)).toBe(0.5);
  });
});

describe("the demo's view", () => {
  it('shows nodes that join, speed, bytes and loss of each round, and a chart at the end', () => {
    const view = new DemoView();
    const shown = (each: DemoEvent) => view.lines(each).join('\n');
    shown({ event: 'job-created', job: 'j', name: 'moby', invite: 'i', parameters: 1000, baseLoss: 5 });
    const joined = shown({
      event: 'job-event',
      ...event({ type: 'peer-joined', peer: PEERS[0], name: 'ot\u001bter', engine: 'e' }),
    });
    expect(joined).toContain('ot·ter');
    const text = round(1, 4.5)
      .map((each) => shown({ event: 'job-event', ...each }))
      .join('\n');
    for (const part of ['round 1', 'training', '4.5000', '−0.5000', '700 tokens/s']) {
      expect(text, part).toContain(part);
    }
    expect(text).toMatch(/ot·ter .*\b500 B\b.*\b400 tokens\/s/);
    const end = shown({
      event: 'summary',
      peers: 2,
      rounds: 1,
      baseLoss: 5,
      finalLoss: 4.25,
      bytesPerParameterPerRound: 0.5,
      wallSeconds: 12,
      adapter: '/a',
    });
    for (const part of ['4.2500', '−15.0 %', '█', '0.500 bytes', '/a']) expect(end, part).toContain(part);
  });

  it('prints the lines of the transcript in README.md', () => {
    const view = new DemoView();
    const names = { otter: 'qMpMCi', badger: 'uteebY', heron: 'zxN1qm' };
    const peerOf = (end: string): string => `12D3KooW${'x'.repeat(38)}${end}`;
    const sent = [
      { peer: peerOf(names.otter), tokens: 4734 },
      { peer: peerOf(names.badger), tokens: 4455 },
      { peer: peerOf(names.heron), tokens: 4246 },
    ];
    const update = { type: 'update', round: 1, code: 'accepted', detail: '', bytes: 19_000, seconds: 1 };
    const committed = { type: 'checkpoint', round: 1, digest: 'd', heldOutLoss: 5.1135, updates: 3 };
    const events: DemoEvent[] = [
      { event: 'job-created', job: 'j', name: 'moby', invite: 'i', parameters: 1000, baseLoss: 5.4444 },
      ...[
        ...Object.entries(names).map(([name, end]) => ({ type: 'peer-joined', peer: peerOf(end), name })),
        { type: 'round-opened', round: 1, peers: 3, preset: 'balanced', deadlineMs: 1 },
        ...sent.map((each) => ({ ...update, ...each })),
        { type: 'round-closed', round: 1, updates: 3, assigned: 3, cause: 'complete' },
        { ...committed, tokens: 1, tokensPerSecond: 10_791, updateBytes: 1, seconds: 4.3 },
      ].map((body) => ({ event: 'job-event' as const, ...event(body) })),
      {
        event: 'summary',
        peers: 3,
        rounds: 8,
        baseLoss: 5.2759,
        finalLoss: 4.4039,
        bytesPerParameterPerRound: 0.059,
        wallSeconds: 44,
        adapter: '.swarm/demo-20261126-085532/adapter',
      },
    ];
    // The chart of README.md has all eight rounds.
    const lines = events.flatMap((each) => view.lines(each)).filter((line) => !/┤|^ +0 1$/.test(line));
    const readme = readFileSync(join(import.meta.dirname, '../../../README.md'), 'utf8').split('\n');
    expect(lines.filter((line) => line !== '')).toHaveLength(12);
    for (const line of lines) {
      if (!line.startsWith('job ')) expect(readme, line).toContain(line);
    }
  });
});
