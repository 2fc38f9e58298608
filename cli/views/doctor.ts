import { countOf, formatBytes, formatCount, safeText, table } from '../../common/text.ts';
import type { MachineSpeed } from '../../index.ts';
import type { BaseReport, Diagnosis, EngineReport } from '../../lora/doctor/diagnose.ts';
import type { Precision } from '../../lora/engines/precision.ts';
import type { BaseBits } from '../../lora/models/base/base-bits.ts';
import type { Formats } from '../../lora/train/devices/compare-engines.ts';
import { SWARM, withCommandName } from '../command-name.ts';
import { brokenLine } from '../print.ts';
import { wrappedAdvice, wrappedCommand } from '../wrapped-command.ts';

/** Limit for an engine's own error text, which may contain a long path. */
const REASON = { maxCharacters: 600 };

/** Number of spaces before the continuation of a line that begins with a label. */
const LABEL = 11;

/** Formats a diagnosis of this machine. @param columns maximum length of a line */
export function doctorLines(diagnosis: Diagnosis, columns = Number.POSITIVE_INFINITY): string[] {
  const wrapped = (line: string, indent = LABEL): string[] => brokenLine(line, { columns, indent });
  const { machine, threads, baseBits, measured, engines, base, problems } = diagnosis;
  const { instructions } = machine;
  const known = instructions === null ? '' : `; ${instructions.join(', ') || 'no vector instructions'}`;
  const missing = engines.filter(({ speed }) => speed === null);
  return [
    `machine    ${machine.platform}, Node.js ${machine.node}`,
    ...wrapped(`processor  ${safeText(machine.processor)}, ${countOf(machine.threads, 'thread')}${known}`),
    `memory     ${formatBytes(machine.memory)}, ${formatBytes(machine.availableMemory)} available`,
    '',
    ...wrapped(
      `measured with ${countOf(threads, 'thread')}: matrix products of ${measured.tokens} × ${measured.width} by ` +
        `${measured.width} × ${3 * measured.width}`,
      2,
    ),
    ...table(
      [
        ['engine', ...(base === null ? [] : ['training']), 'matrix products', 'memory speed', 'overhead'],
        ...engines.map((report) => engineRow(report, diagnosis)),
      ],
      { columns },
    ),
    ...(missing.length === 0 ? [] : ['']),
    ...missing.flatMap(({ engine, reason, needs }) => [
      ...wrapped(`${engine}: ${safeText(reason ?? '', REASON)}`, 2),
      ...(needs === null ? [] : wrappedAdvice(safeText(needs, REASON), { indent: 2, columns })),
    ]),
    ...(base === null
      ? ['', ...wrapped('add --model MODEL to predict the memory and speed of training a base model', 2)]
      : [
          '',
          ...wrapped(
            `base       ${safeText(base.model)}, ${formatCount(base.parameters)} parameters; training with ` +
              `${countOf(base.rows, 'row')} of ${base.sequenceLength} tokens needs ${formatBytes(base.memory)} on the processor${checkpointingNote(base, baseBits)}`,
          ),
          ...(base.chosen === null
            ? []
            : wrapped(
                `auto       --engine auto (the default) chooses ${base.chosen.engine}: ${base.chosen.reason}`,
              )),
          ...(problems.length === 0
            ? ['', ...wrappedCommand(`next: ${trainCommand(base, diagnosis)}`, columns)]
            : []),
          ...(baseBits === 32
            ? wrapped('add --base-bits 8 or 4 to see memory and speed of a base with fewer bits', 2)
            : []),
        ]),
    ...problems.flatMap((problem) => wrapped(`problem    ${withCommandName(problem)}`)),
    ...verdict(diagnosis).flatMap((line) => ['', ...wrapped(line, 2)]),
  ];
}

/** Returns a line with the engines that can train; no line if the machine cannot train, because an error says so. */
function verdict({ engines, base, problems }: Diagnosis): string[] {
  const able = engines.filter(({ speed, lacks }) => speed !== null && lacks === null);
  if (problems.length > 0 || able.length === 0) return [];
  const names = able.map(({ engine }) => engine).join(' or ');
  return [`this machine can train${base === null ? '' : ' this base'}, with ${names}`];
}

/** Returns the command to try next, with the measured base bits and precision. */
function trainCommand({ model }: BaseReport, { baseBits, precision }: Formats): string {
  const computing = [
    ...(baseBits === 32 ? [] : [` --base-bits ${baseBits}`]),
    ...(precision === 'float32' ? [] : [` --precision ${precision}`]),
  ].join('');
  return `${SWARM} train --model ${safeText(model)}${computing} --data … --output … --dry-run`;
}

function checkpointingNote({ checkpointing }: BaseReport, baseBits: BaseBits): string {
  if (!checkpointing) return '';
  return `, with gradient checkpointing, ${baseBits === 4 ? 'which a 4-bit base turns on' : 'because training does not fit into memory without it'}`;
}

function engineRow(report: EngineReport, { baseBits, precision, base }: Diagnosis): string[] {
  const { engine, speed, software, lacks } = report;
  if (speed === null) {
    return [engine, lacks !== null ? 'skipped' : software ? 'no GPU' : 'does not run here'];
  }
  return [
    engine,
    // The training speed is the most important figure. It comes first, because a narrow terminal wraps the
    // end of a line.
    ...(base === null ? [] : [trainingSpeeds(report, precision)]),
    productSpeeds(speed, baseBits),
    `${(speed.bytes / 1e9).toFixed(0)} GB/s`,
    `${(speed.secondsPerOperation * 1e6).toPrecision(2)} µs`,
  ];
}

function productSpeeds({ flops, baseFlops, float16Flops }: MachineSpeed, baseBits: BaseBits): string {
  const others = [
    ...(baseFlops === undefined ? [] : [`${formatCount(baseFlops / 1e9)} at ${baseBits} bits`]),
    ...(float16Flops === undefined ? [] : [`${formatCount(float16Flops / 1e9)} in float16`]),
  ];
  return [`${formatCount(flops / 1e9)} GFLOP/s`, ...others].join(', ');
}

function trainingSpeeds(
  { lacks, tokensPerSecond, tokensPerSecondInFloat16: inFloat16 }: EngineReport,
  precision: Precision,
): string {
  if (tokensPerSecond === null) return lacks ?? '';
  const speed = `about ${formatCount(tokensPerSecond)} tokens/s`;
  if (precision === 'float16' || inFloat16 === null) return speed;
  return `${speed} (about ${formatCount(inFloat16)} with --precision float16)`;
}
