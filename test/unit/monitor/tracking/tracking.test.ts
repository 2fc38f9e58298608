import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openCsv } from '../../../../monitor/tracking/csv.ts';
import { openMlflow } from '../../../../monitor/tracking/mlflow.ts';
import { type Point, pointOf } from '../../../../monitor/tracking/points.ts';
import { crc32c, openTensorboard, startRecord } from '../../../../monitor/tracking/tensorboard.ts';
import { track } from '../../../../monitor/tracking/track.ts';
import type { JobEvent } from '../../../../protocol/api/job-events.ts';
import { temporaryFolder } from '../../../utils/folder.ts';
import { withCode } from '../../../utils/source/codes.ts';

function checkpoint(round: number, heldOutLoss: number | null = 5 - round / 10): JobEvent {
  return {
    type: 'checkpoint',
    sequence: 10 * round + 1,
    at: 1_700_000_000_000 + 1000 * round,
    job: 'j',
    round,
    digest: 'd',
    heldOutLoss,
    trainLoss: null,
    updates: 3,
    tokens: 1200,
    tokensPerSecond: 400,
    updateBytes: 9000,
    bytesPerParameter: 0.1,
    seconds: 3,
    drift: null,
  };
}

async function* events(...list: JobEvent[]): AsyncGenerator<JobEvent> {
  yield* list;
}

const finished = {
  type: 'finished',
  sequence: 99,
  at: 0,
  job: 'j',
  round: 3,
  heldOutLoss: 4,
  baseLoss: 5,
} as const;
const silent = { past: 3, lostPoints: () => Promise.resolve([]), onPoint: () => {} };

describe('a table', () => {
  it('has a row per round, and is written anew by a second call', async () => {
    const path = join(await temporaryFolder(), 'curve.csv');
    for (let i = 0; i < 2; i++) {
      await track(
        events(checkpoint(0), checkpoint(1), checkpoint(2, null), finished),
        [await openCsv(path, 'ab'.repeat(32))],
        silent,
      );
    }
    expect((await readFile(path, 'utf8')).trim().split('\n')).toEqual([
      'job,round,time,loss/held_out,loss/train,round/updates,round/tokens,round/seconds,round/update_bytes,speed/tokens_per_second',
      'abababababababab,0,2023-11-14T22:13:20.000Z,5,,3,1200,3,9000,400',
      'abababababababab,1,2023-11-14T22:13:21.000Z,4.9,,3,1200,3,9000,400',
      'abababababababab,2,2023-11-14T22:13:22.000Z,,,3,1200,3,9000,400',
    ]);
  });

  it('never overwrites the table of another job', async () => {
    const path = join(await temporaryFolder(), 'curve.csv');
    await track(events(checkpoint(0), finished), [await openCsv(path, 'ab'.repeat(32))], silent);
    const before = await readFile(path, 'utf8');
    await expect(openCsv(path, 'cd'.repeat(32))).rejects.toEqual(withCode('OUTPUT_EXISTS', { path }));
    expect(await readFile(path, 'utf8')).toBe(before);
  });

  it('never overwrites another file', async () => {
    const path = join(await temporaryFolder(), 'notes.csv');
    await writeFile(path, 'my notes\n');
    await expect(openCsv(path, 'ab'.repeat(32))).rejects.toEqual(withCode('OUTPUT_EXISTS', { path }));
    expect(await readFile(path, 'utf8')).toBe('my notes\n');
  });
});

describe('files of TensorBoard', () => {
  it('have the checksums of RFC 3720', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
  });

  it('are the bytes that tensorboard 2.21 writes for the same scalar', async () => {
    const folder = await temporaryFolder();
    const tracker = await openTensorboard(folder, { name: 'j', createdAt: 1_700_000_000_000 });
    await tracker.add([{ round: 3, at: 1_700_000_000_000, sequence: 1, values: { 'loss/held_out': 4.5 } }]);
    await tracker.close(true);
    // Its RecordWriter wrote Event(wall_time=1.7e9, file_version="brain.Event:2") and Event(wall_time=1.7e9, step=3,
    // summary=Summary(value=[Summary.Value(tag="loss/held_out", simple_value=4.5)])).
    const reference = [
      '1800000000000000a37f4b220900000040fc54d9411a0d627261696e2e4576656e743a32eced8f9d2300000000',
      '000000b09f77430900000040fc54d94110032a160a140a0d6c6f73732f68656c645f6f757415000090409f1a7e',
      '39',
    ].join('');
    const bytes = await readFile(join(folder, 'events.out.tfevents.1700000000.lora-swarm'));
    expect(bytes.toString('hex')).toBe(reference);
  });

  it('drop earlier points with the bytes that tensorboard 2.21 writes for a start at a step', () => {
    // Its RecordWriter wrote Event(wall_time=1.7e9, step=12, session_log=SessionLog(status=SessionLog.START)).
    const reference = '0f000000000000006d532b090900000040fc54d941100c3a020801a56986b4';
    expect(Buffer.from(startRecord(1_700_000_000_000, 12)).toString('hex')).toBe(reference);
  });
});

describe('a run of MLflow', () => {
  /** A tracking server that keeps what it gets. */
  async function server() {
    const run = { info: { run_id: 'r1' }, data: { tags: [] as { key: string; value: string }[] } };
    const kept = {
      ...{ metrics: [] as { key: string; step: number }[], status: '', runs: 0, authorization: '' },
      /** Number of further requests with metrics that the server takes. */
      takes: Number.POSITIVE_INFINITY,
    };
    const answers: Record<string, (body: Record<string, never>) => object | null> = {
      'experiments/get-by-name': () => null,
      'experiments/create': () => ({ experiment_id: '7' }),
      'runs/search': () => ({ runs: kept.runs > 0 ? [run] : [] }),
      'runs/create': ({ tags }) => {
        kept.runs++;
        run.data.tags = [...(tags as typeof run.data.tags)];
        return { run };
      },
      'runs/log-batch': ({ metrics = [], tags = [] }) => {
        if ((metrics as object[]).length > 0 && kept.takes-- <= 0) return null;
        kept.metrics.push(...(metrics as typeof kept.metrics));
        const given = tags as typeof run.data.tags;
        const others = run.data.tags.filter(({ key }) => given.every((tag) => tag.key !== key));
        run.data.tags = [...others, ...given];
        return {};
      },
      'runs/update': ({ status }) => {
        kept.status = status;
        return {};
      },
    };
    const http = createServer(async (request, response) => {
      kept.authorization = request.headers.authorization ?? '';
      const path = request.url!.replace('/api/2.0/mlflow/', '').split('?')[0]!;
      const body = request.method === 'POST' ? JSON.parse(await text(request)) : {};
      const answer = answers[path]?.(body) ?? null;
      response.writeHead(answer === null ? 404 : 200).end(JSON.stringify(answer ?? { error: 'unknown' }));
    });
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void http.close());
    const { port } = http.address() as AddressInfo;
    return { url: `http://127.0.0.1:${port}/`, kept };
  }

  const job = { digest: 'ab', name: 'j', createdAt: 1, parameters: { base: 'nano' } };
  const { signal } = new AbortController();

  it('gets each round once, even if a first call was interrupted', async () => {
    const { url, kept } = await server();
    const options = { url, token: 'secret', signal };
    await track(events(checkpoint(0), checkpoint(1)), [await openMlflow(options, job)], silent);
    expect(kept.status).toBe('');
    const all = [checkpoint(0), checkpoint(1), checkpoint(2), finished];
    const copied: number[] = [];
    const onPoint = ({ round }: Point) => copied.push(round);
    const again = await track(events(...all), [await openMlflow(options, job)], { ...silent, onPoint });
    expect(again).toEqual({ added: 1, known: 2 });
    expect(copied).toEqual([2]);
    const third = await track(events(...all), [await openMlflow(options, job)], silent);
    expect(third).toEqual({ added: 0, known: 3 });
    const rounds = kept.metrics.filter(({ key }) => key === 'loss/held_out').map(({ step }) => step);
    expect(rounds).toEqual([0, 1, 2]);
    expect(kept).toMatchObject({ runs: 1, status: 'FINISHED', authorization: 'Bearer secret' });
  });

  it('gets all rounds whose events were lost, also if the first call was interrupted between them', async () => {
    const { url, kept } = await server();
    const caughtUp = { type: 'caught-up', sequence: 12, at: 0, job: 'j', before: 1, round: 300 } as JobEvent;
    const lost = Array.from({ length: 299 }, (_, i) => ({ ...pointOf(checkpoint(i + 2))!, sequence: 12 }));
    const options = { ...silent, lostPoints: async () => lost };
    const copy = async () =>
      track(events(checkpoint(1), caughtUp, finished), [await openMlflow({ url, signal }, job)], options);
    kept.takes = 1;
    await expect(copy()).rejects.toMatchObject({ code: 'TRACKER_REFUSED' });
    kept.takes = Number.POSITIVE_INFINITY;
    expect(await copy()).toEqual({ added: 299, known: 1 });
    const rounds = kept.metrics.filter(({ key }) => key === 'loss/held_out').map(({ step }) => step);
    expect(rounds.filter((round) => round === 1)).toHaveLength(1);
    expect(new Set(rounds).size).toBe(300);
  });

  it('says which server does not answer, or refuses', async () => {
    const { url } = await server();
    const closed = 'http://127.0.0.1:1';
    await expect(openMlflow({ url: closed, signal }, job)).rejects.toEqual(
      withCode('TRACKER_UNREACHABLE', { url: closed }),
    );
    const wrong = `${url}wrong`;
    await expect(openMlflow({ url: wrong, signal }, job)).rejects.toEqual(
      withCode('TRACKER_REFUSED', { url: wrong, status: 404 }),
    );
  });
});
