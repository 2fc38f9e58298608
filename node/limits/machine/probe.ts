/** A reading of the machine on which a node runs. */
export interface MachineReading {
  /** Processor time of all processes since the start of the machine, in seconds; null if it is unknown. */
  readonly busySeconds: number | null;
  /** Processor time of the node and its child processes, in seconds; null if it is unknown. */
  readonly ownSeconds: number | null;
  readonly onBattery: boolean;
  /** Whether a person uses the machine: it has a battery, or someone is logged in at its screen. */
  readonly hasUser: boolean;
}

/** Reads the state of the machine on one operating system. */
export interface MachineProbe {
  /** Milliseconds between two readings. The interval is long, because each reading uses processor time. */
  readonly everyMs: number;
  /** @param pid process id of the node */
  read(pid: number): Promise<MachineReading>;
}

/** Functions with which probes read the system. Tests replace these functions. */
export interface ProbeDeps {
  /** Returns the text of a file; null if it cannot be read. */
  readonly text: (path: string) => Promise<string | null>;
  /** Returns the names in a folder; an empty list if the folder cannot be read. */
  readonly names: (folder: string) => Promise<readonly string[]>;
  /** Returns the output of a program; null if it fails. */
  readonly output: (program: string, ...args: string[]) => Promise<string | null>;
  /** Returns the processor time of all processes since the start of the machine, in seconds, as Node.js reports it. */
  readonly busySeconds: () => number;
}

/** A process, and its processor time. */
export interface ProcessRow {
  readonly pid: number;
  readonly parent: number;
  readonly seconds: number;
}

/** Returns the processor time of a process and all its descendants; null if `rows` lacks the process. */
export function secondsOfTree(rows: readonly ProcessRow[], pid: number): number | null {
  if (!rows.some((row) => row.pid === pid)) return null;
  const seen = new Set([pid]);
  // Each repetition adds the children of the processes that are in `seen`.
  for (let size = 0; size < seen.size; ) {
    size = seen.size;
    for (const row of rows) if (seen.has(row.parent)) seen.add(row.pid);
  }
  return rows.reduce((sum, row) => sum + (seen.has(row.pid) ? row.seconds : 0), 0);
}
