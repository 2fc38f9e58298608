/** Writes checkpoints until it is killed: `node checkpoint-writer.ts <output folder>`. Sends the number of each step before it writes the checkpoint. */
import { CheckpointFolder } from '../../../lora/finetune/checkpoints.ts';
import { trainingState } from './checkpoints.ts';

const checkpoints = new CheckpointFolder({ output: process.argv[2]!, keep: 1 });
for (let step = 1; ; step++) {
  process.send!(step);
  const { about, ...state } = trainingState(step);
  await checkpoints.write(state, about);
}
