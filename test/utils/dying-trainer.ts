/**
 * Imported before a trainer process: it kills itself after so many steps, as a system does where memory runs out. A
 * signal from a test that watches the steps may come after the last one.
 *
 * DYING_TRAINER is a folder, in which each life of the trainer leaves a file; DYING_TRAINER_STEPS says how many steps
 * each life has, as "2,6"; later lives go on. An evaluation counts as a step.
 */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = process.env.DYING_TRAINER!;
const lives = process.env.DYING_TRAINER_STEPS!.split(',').filter(Boolean).map(Number);
const send = process.send?.bind(process);

// The command inherits this too, and has no parent that it tells of steps.
if (send !== undefined) {
  const life = readdirSync(folder).length;
  writeFileSync(join(folder, String(life)), '');
  let left = lives[life] ?? Number.POSITIVE_INFINITY;
  process.send = ((message: { type: string }) => {
    const counts = message.type === 'progress' || message.type === 'evaluated';
    if (counts && --left < 0) process.kill(process.pid, 'SIGKILL');
    return send(message);
  }) as typeof process.send;
}
