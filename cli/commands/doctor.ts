import type { Command } from 'commander';
import { resolveCache } from '../../common/files/user-folders.ts';
import type { Precision } from '../../lora/engines/precision.ts';
import type { BaseBits } from '../../lora/models/base/base-bits.ts';
import { mergeComputeInputs, parseCompute } from '../../lora/train/compute.ts';
import type { Context } from '../context.ts';
import { cliError } from '../error-codes.ts';
import { usageError } from '../errors.ts';
import { BASE_MODEL, baseFolder } from '../models/base-model.ts';
import {
  BASE_BITS_HELP,
  baseBits,
  homeOption,
  integer,
  jsonOption,
  precisionOption,
} from '../options/common.ts';
import { measuringLine } from '../options/engine.ts';
import { ProgressLine, printJson, printLines, terminalColumns } from '../print.ts';
import { doctorLines } from '../views/doctor.ts';

interface DoctorFlags {
  model?: string;
  baseBits: BaseBits;
  precision: Precision;
  threads?: number;
  swarm?: boolean;
  why?: string | true;
  round?: number;
  home?: string;
  json?: boolean;
}

export function registerDoctor(program: Command, context: Context): void {
  program
    .command('doctor')
    .description(
      'measure the engines that run on this machine, and show what you must install for the other engines. Without --swarm, exit code 8 means that this machine cannot train. With --swarm, exit code 8 means that a daemon does not work, and exit code 3 means that no daemon runs',
    )
    .option('--model <model>', `also predict the memory and speed of training this base model: ${BASE_MODEL}`)
    .option(
      '--threads <n>',
      'CPU threads to measure with (default: all threads of the machine)',
      integer(1, 1024),
    )
    .option('--base-bits <bits>', BASE_BITS_HELP, baseBits, 32)
    .addOption(precisionOption().default('float32'))
    .option(
      '--swarm',
      'instead of the engines, check the coordinator and the node that run on this machine; show the addresses in the invites, the free disk space, the versions, and why a node does not contribute',
    )
    .option(
      '--why [node]',
      'instead of the engines, show in one timeline what the log of a node and the record of its coordinator say about its newest update that did not count; [node] is the name of the node, its peer id or the end of the peer id (default: the node of this machine)',
    )
    .option('--round <n>', 'with --why: the round of the update', integer(1))
    .addOption(homeOption())
    .addOption(jsonOption())
    .action(async (flags: DoctorFlags, command: Command) => {
      refuseUseless(flags, command);
      const { why } = flags;
      if (why !== undefined) {
        const { doctorWhy } = await import('../doctor/why.ts');
        return doctorWhy(context, { ...flags, why });
      }
      if (!flags.swarm) return doctor(context, flags);
      const { doctorSwarm } = await import('../doctor/swarm.ts');
      return doctorSwarm(context, flags);
    });
}

/** Refuses options that have no effect on the chosen check. @throws SwarmError USAGE */
function refuseUseless({ swarm = false, why }: DoctorFlags, command: Command): void {
  const engine = ['model', 'threads', 'baseBits', 'precision'];
  if (why !== undefined && swarm)
    throw usageError('--swarm and --why are two checks', 'leave out one of them');
  const check = swarm ? '--swarm' : why === undefined ? null : '--why';
  const useless = check === null ? ['home', 'round'] : swarm ? [...engine, 'round'] : engine;
  const given = command.options.filter(
    (option) =>
      useless.includes(option.attributeName()) &&
      command.getOptionValueSource(option.attributeName()) === 'cli',
  );
  if (given.length === 0) return;
  const flags = given.map(({ long }) => long).join(' and ');
  throw usageError(
    check === null ? `only --swarm and --why use ${flags}` : `${check} does not use ${flags}`,
    check === null
      ? `add --swarm or --why, or leave out ${flags}`
      : `leave out ${flags}, or leave out ${check} to check this machine`,
  );
}

async function doctor(context: Context, flags: DoctorFlags): Promise<void> {
  const { diagnose } = await import('../../lora/doctor/diagnose.ts');
  const { environment, cwd, clock, signal } = context;
  const modelDir = flags.model === undefined ? null : await baseFolder(context, flags.model);
  const progress = new ProgressLine(context);
  const diagnosis = await diagnose({
    modelDir,
    compute: parseCompute(mergeComputeInputs(flags)),
    cacheDir: resolveCache(environment, cwd),
    now: clock.now(),
    signal,
    onProbe: (engine) => progress.update(measuringLine(engine)),
  }).finally(() => progress.clear());
  const { problems } = diagnosis;
  if (flags.json && problems.length === 0) printJson(context, { schemaVersion: 1, ...diagnosis });
  else if (!flags.json) printLines(context, doctorLines(diagnosis, terminalColumns(context)));
  if (problems.length === 0) return;
  // With --json this error is the only object that is printed, so it contains the diagnosis.
  throw cliError('UNHEALTHY', `this machine cannot train: ${problems.join('; ')}`, { ...diagnosis });
}
