/**
 * Makes a trainer process kill itself after a number of steps, as the system does when memory runs out. (A test that
 * watches the steps and then sends a signal may be too late.) Imported into every Node.js process of the command.
 *
 * DYING_TRAINER is a folder; each trainer process writes a file into it. DYING_TRAINER_STEPS has the number of steps of
 * each process, as "2,6"; later processes do not die. An evaluation counts as a step.
 */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = process.env.DYING_TRAINER!;
const lives = process.env.DYING_TRAINER_STEPS!.split(',').filter(Boolean).map(Number);
const send = process.send?.bind(process);

// The command itself imports this file too, but has no parent process to which it sends the numbers of steps.
if (send !== undefined) {
  const life = readdirSync(folder).length;
  writeFileSync(join(folder, String(life)), '');
  let left = lives[life] ?? Number.POSITIVE_INFINITY;
  process.send = ((message: { type: string; reply?: unknown; progress?: unknown }) => {
    const isEvaluation = Array.isArray(message.reply) && 'lossSum' in (message.reply[0] ?? {});
    const isStep = message.type === 'progress' && message.progress !== null;
    const counts = isStep || isEvaluation;
    if (counts && --left < 0) process.kill(process.pid, 'SIGKILL');
    return send(message);
  }) as typeof process.send;
}
