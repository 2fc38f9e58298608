/** Exit codes of every command, and which error leads to which. docs/exit-codes.md explains each in prose. */
export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  notRunning: 3,
  notFound: 4,
  refused: 5,
  conflict: 6,
  timeout: 7,
  unhealthy: 8,
  paused: 9,
  internal: 70,
  interrupted: 130,
} as const;

export type Exit = keyof typeof exitCodes;

interface Row {
  /** Matches a whole error code. */
  codes: RegExp;
  exit: Exit;
  /** What to do, where the error itself does not say. */
  next?: string;
}

/** What to do about a defect of ours. */
export const REPORT = 'report it with what you ran and the output of "swarm version"';

/** The first row that matches an error's code decides; an error of ours that none matches is `failed`. */
const rows: readonly Row[] = [
  { codes: /INTERRUPTED/, exit: 'interrupted' },
  { codes: /USAGE|LOG_LEVEL|INVITE_INVALID|ADDRESS_INVALID|PEER_ID_INVALID/, exit: 'usage' },
  {
    codes: /JOB_SPEC|LORA_.*|ENGINE_UNKNOWN|BASE_BITS|(MODEL_)?SEQUENCE_TOO_LONG|REQUEST_INVALID/,
    exit: 'usage',
  },
  // There, but of a kind that is not read; what the system does not let us read has a cause that says so.
  { codes: /DATA_(UNREADABLE|FORMAT|COLUMNS|ENCODING)/, exit: 'usage' },
  { codes: /DAEMON_NOT_RUNNING/, exit: 'notRunning' },
  {
    codes: /MODEL_DIR|MODEL_FILE_MISSING|BLOB_MISSING|PACKAGE_MISSING/,
    exit: 'notFound',
  },
  { codes: /JOB_FILE_MISSING|DATA_NO_FILES/, exit: 'notFound', next: 'check the path' },
  { codes: /.*_(NOT_FOUND|UNKNOWN|MISSING)|CHECKPOINT_PRUNED/, exit: 'notFound' },
  {
    codes:
      /UNAUTHORI[SZ]ED|FORBIDDEN|HUB_(GATED|UNAUTHORIZED)|.*_REFUSED|.*_FORBIDDEN|NOT_ADMITTED|POLICY_.*|FOLDER_UNUSABLE/,
    exit: 'refused',
  },
  {
    codes:
      /HOME_LOCKED|HOME_ROLE|.*_(EXISTS|CONFLICT|AMBIGUOUS)|JOB_OVER|TOO_MANY_JOBS|LISTEN_FAILED|(HUB|OUTPUT)_BUSY/,
    exit: 'conflict',
  },
  { codes: /DEADLINE_EXCEEDED|.*_TIMEOUT|.*_TIMED_OUT|HUB_(RATE_LIMITED|UNAVAILABLE)/, exit: 'timeout' },
  {
    codes: /CONNECT_FAILED|.*_UNREACHABLE/,
    exit: 'timeout',
    next: 'check the address, and that the other machine is up and its port is open',
  },
  { codes: /UNHEALTHY/, exit: 'unhealthy' },
  { codes: /JOB_PAUSED/, exit: 'paused' },
  // The operating system's own words.
  { codes: /EACCES|EPERM|EROFS/, exit: 'refused', next: 'check who owns the path and what it allows' },
  { codes: /ENOENT|ENOTDIR/, exit: 'notFound', next: 'check the path' },
  { codes: /EADDRINUSE|EEXIST|EBUSY/, exit: 'conflict' },
  { codes: /ENOSPC|EDQUOT/, exit: 'failed', next: 'free disk space, then run the same command again' },
  // A graph that does not fit together is a defect of ours, whatever the input.
  { codes: /GRAPH_.*|ENGINE_(FEED|DISPOSED)|TRAINER_NOT_STARTED/, exit: 'internal', next: REPORT },
  {
    codes: /ENGINE_(RUN|COMPILE)/,
    exit: 'internal',
    next: `if a GPU has no memory left, --engine onnx-cpu computes in the machine's; else ${REPORT}`,
  },
  {
    codes: /ENGINE_UNAVAILABLE/,
    exit: 'failed',
    next: '"swarm doctor" shows what each engine lacks; with --engine auto the fastest one that runs is taken',
  },
  { codes: /STORE_FULL/, exit: 'failed', next: 'free disk space, then run the same command again' },
  {
    // A run that goes on makes the very same step again.
    codes: /GRADIENT_NOT_FINITE/,
    exit: 'failed',
    next: 'begin anew with a lower --learning-rate, a longer --warmup or a smaller --clip-norm; --resume would fail at the same step, and an earlier checkpoint, if there is one, is an adapter that can be used',
  },
  {
    codes: /TRAINER_DIED/,
    exit: 'failed',
    next: 'if memory ran out (fewer rows at a time were tried), begin anew with --base-bits 4 or a smaller --sequence-length; if other programs took it, go on later with --resume',
  },
];

/**
 * How a command ends after an error with this code, and the table's advice (null where it has none). What could not be
 * read ends as its cause would, where it has one.
 */
export function exitFor(code: string, cause?: unknown): { exit: Exit; next: string | null } {
  if (code.endsWith('_UNREADABLE') && cause instanceof Error && 'code' in cause) {
    return exitFor(String(cause.code));
  }
  const row = rows.find(({ codes }) => codes.exec(code)?.[0] === code);
  return { exit: row?.exit ?? 'failed', next: row?.next ?? null };
}
