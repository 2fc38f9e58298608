/**
 * Runs a swarm of real processes with faults, and checks afterwards that nothing was lost or counted twice.
 *
 *   npm run chaos [-- --schedule NAME] [--seed N] [--rounds R] [--nodes K] [--steps S] [--only CELLS]
 *     [--folder F] [--no-baseline]
 *
 * The seed decides the faults. Prints one line per round. After the last round, runs the same job without faults until it
 * has trained as many tokens, and compares the held-out losses of the newest checkpoints. The option --no-baseline skips this
 * second run. The schedules walk-coordinator and walk-nodes end by themselves, and print a table. The option --only chooses
 * cells of this table by parts of their names, such as "reserve,delete node.sqlite". After a problem, the script keeps all
 * homes and exits with 1.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compareLosses } from './chaos/compare.ts';
import { type RoundReport, runChaos } from './chaos/run.ts';
import { schedules } from './chaos/schedules.ts';
import { walkTable } from './chaos/walk.ts';
import { scriptOptions, wholeNumber, wrongUsage } from './options.ts';

/** Maximum fraction by which the held-out loss may exceed the held-out loss of a run without faults. */
const LOSS_TOLERANCE = 0.03;

const INTERRUPTED_EXIT_CODE = 130;

const { values } = scriptOptions(import.meta.filename, {
  options: {
    schedule: { type: 'string', default: 'mixed' },
    seed: { type: 'string', default: '1' },
    rounds: { type: 'string' },
    nodes: { type: 'string', default: '12' },
    steps: { type: 'string', default: '12' },
    only: { type: 'string', default: '' },
    folder: { type: 'string' },
    'no-baseline': { type: 'boolean', default: false },
  },
});
if (!Object.hasOwn(schedules, values.schedule)) {
  wrongUsage(
    `no schedule is called "${values.schedule}"; the schedules are ${Object.keys(schedules).join(', ')}`,
  );
}
/** Number of rounds of a schedule that does not end by itself. */
const ROUNDS = '20';
const isWalk = values.schedule.startsWith('walk');
const number = (option: 'seed' | 'rounds' | 'nodes' | 'steps', min = 1) =>
  wholeNumber(option, values[option] ?? ROUNDS, min);
const swarm = {
  seed: number('seed', 0),
  rounds: isWalk && values.rounds === undefined ? Infinity : number('rounds', 0),
  nodes: number('nodes'),
  localSteps: number('steps'),
};
const folder = values.folder ?? (await mkdtemp(join(tmpdir(), 'lora-swarm-chaos-')));
const options = {
  ...swarm,
  schedule: values.schedule,
  only: values.only.split(','),
  tokens: 0,
};

function line({ round, faults, ended, updates, loss, seconds, problems }: RoundReport): string {
  const figures = [
    round,
    ended,
    updates,
    loss?.toFixed(4) ?? '-',
    `${seconds.toFixed(0)} s`,
    faults.join('; '),
  ];
  return [figures.join('  '), ...problems.map((problem) => `    PROBLEM: ${problem}`)].join('\n');
}

// Turn these signals into an exit, because the handler of the event `exit` kills the daemons.
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.once(name, () => process.exit(INTERRUPTED_EXIT_CODE));
console.log(`schedule ${options.schedule}, seed ${options.seed}, ${options.nodes} nodes, in ${folder}`);
console.log('round  ended by  updates  loss  time  faults');
const start = performance.now();
const result = await runChaos({ ...options, folder: join(folder, 'chaos') }, (round) =>
  console.log(line(round)),
);
const problems = [...result.problems];
if (!values['no-baseline'] && result.finished) {
  const calm = await runChaos(
    {
      ...options,
      schedule: 'calm',
      rounds: 0,
      tokens: result.points.at(-1)!.tokens,
      folder: join(folder, 'calm'),
    },
    () => {},
  );
  const { tokens, checkpoints, loss, expected, excess } = compareLosses(result.points, calm.points);
  const percent = `${(100 * excess).toFixed(1)} %`;
  console.log(
    `loss after ${tokens} tokens in ${checkpoints[0]} checkpoints: ${loss.toFixed(4)}, without faults ${expected.toFixed(4)} in ${checkpoints[1]} (${percent})`,
  );
  if (excess > LOSS_TOLERANCE) problems.push(`the loss is ${percent} higher than without faults`);
}
if (result.walked.size > 0) console.log(walkTable(result.walked).join('\n'));
const { checkpoints, merged, undone } = result;
const seconds = ((performance.now() - start) / 1000).toFixed(0);
console.log(
  `${checkpoints} checkpoints, ${merged} updates merged once, ${undone} refused or undone, ${seconds} s`,
);
for (const problem of problems) console.log(`PROBLEM: ${problem}`);
if (problems.length > 0) {
  console.log(`the homes are kept in ${folder}`);
  process.exit(1);
}
await rm(folder, { recursive: true });
process.exit(0);
