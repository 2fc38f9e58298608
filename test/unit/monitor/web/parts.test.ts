import { expect, it } from 'vitest';
import { formatBytes, formatLoss } from '../../../../common/text.ts';
import { CHANGEABLE_KEYS } from '../../../../coordinator/job-changes.ts';
import type { JobDetail } from '../../../../index.ts';
import { progressOf, roundWithSteps } from '../../../../monitor/round-progress.ts';
import { axisLabels, axisWidth } from '../../../../monitor/web/parts/axis.ts';
import { changeableSettings } from '../../../../monitor/web/parts/changeable-settings.ts';
import { sourcesIn } from '../../../utils/source/sources.ts';

it('labels of an axis differ, also if the format rounds them to the same text', () => {
  expect(axisLabels([1000, 2000], formatBytes, 'B')).toEqual(['1.0 kB', '2.0 kB']);
  expect(axisLabels([18_900, 18_950, 19_000], formatBytes, 'B')).toEqual([
    '18.90 kB',
    '18.95 kB',
    '19.00 kB',
  ]);
  expect(axisLabels([2.91, 2.91001], formatLoss, '')).toEqual(['2.91000', '2.91001']);
  expect(axisLabels([0], formatBytes, 'B')).toEqual(['0 B']);
});

it('an axis is wide enough for its longest label, so that no digit is cut', () => {
  const width = axisWidth(['0', '2,500']);
  expect(axisWidth([])).toBe(width);
  // A label of nine characters is 70 pixels wide in the font of a chart, and its mark takes 15 pixels.
  expect(axisWidth(['0', '19.470 kB'])).toBeGreaterThanOrEqual(85);
});

it('a node that has not begun has made no steps, although its heartbeat has those of its last round', () => {
  const view = { state: 'awaiting', round: 3, step: 50, steps: 50 } as const;
  expect(progressOf(view, 4)).toEqual({ done: 0, words: expect.not.stringContaining('50') });
  expect(progressOf({ ...view, round: 4 }, 4).done).toBe(0);
  expect(progressOf({ ...view, state: 'training', step: 10 }, 4).done).toBe(0);
  expect(progressOf({ ...view, state: 'training', step: 10, round: 4 }, 4).done).toBe(0.2);
  expect(progressOf({ ...view, state: 'publishing', round: 4 }, 4).done).toBe(1);
  expect(progressOf(null, 4).done).toBe(0);
});

it('the round of a node has its steps only while they belong to the round', () => {
  const view = { state: 'training', round: 3, step: 10, steps: 50 };
  expect(roundWithSteps(view)).toBe('3 (10/50)');
  for (const state of ['awaiting', 'syncing', 'joining'])
    expect(roundWithSteps({ ...view, state })).toBe('3');
});

it('offers each setting that can change while a job runs', () => {
  const settings = { learningRate: 1e-4, count: 20, minPeers: 2, maxSeconds: 60 };
  const job = { settings, priority: 3, tasks: { every: 5 } } as JobDetail;
  const offered = changeableSettings(job);
  expect(offered.map(({ key }) => key).sort()).toEqual(CHANGEABLE_KEYS.toSorted());
  expect(offered.map(({ value }) => value)).toEqual([1e-4, 20, 2, 60, 3, 5]);
  expect(changeableSettings({ ...job, tasks: null })).toEqual(offered.slice(0, -1));
});

it('asks for a confirmation only with options that the dialog has', () => {
  // The compiler does not check the attributes in a template.
  const known = ['key', 'label', 'effect', 'inputLabel', 'secondLabel', 'danger', 'act', 'onDone'];
  const uses = sourcesIn(['monitor/web']).flatMap(({ path, text }) =>
    [...text.matchAll(/<\$\{Confirm\}(.*?)\/>/gs)].flatMap(([, attributes]) =>
      [...attributes!.matchAll(/^\s*(\w+)=/gm)].map(([, name]) => ({ path, name: name! })),
    ),
  );
  expect(uses.length).toBeGreaterThan(20);
  expect(uses.filter(({ name }) => !known.includes(name))).toEqual([]);
});
