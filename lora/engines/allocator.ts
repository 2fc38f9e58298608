import { processEnvironment } from '../../common/environment.ts';

/**
 * Environment variables for a process that runs graphs, to be set before it starts. Only glibc reads them. By default
 * malloc asks the kernel for the pages of every large allocation, such as an activation. The kernel zeroes these pages
 * on first use and gets them back after the last use. With these settings the process keeps the memory of a step for
 * the next step, and its peak stays the same. Decision 013 has the figures.
 */
export const GRAPH_PROCESS_ENVIRONMENT: Readonly<Record<string, string>> = {
  GLIBC_TUNABLES: `glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=${2 ** 40}`,
};

/** Returns the environment of a child process that runs graphs. Variables that the user has set keep their values. */
export function graphProcessEnvironment(): Record<string, string | undefined> {
  return { ...GRAPH_PROCESS_ENVIRONMENT, ...processEnvironment() };
}

/**
 * Flags of Node.js for a trainer process. They limit each half of V8's young generation to 4 MiB. Building the graphs of
 * a job makes much garbage. With V8's default limit, the young generation grows to 32 MiB for each half, and V8 keeps
 * this memory. Graphs are built as fast with the lower limit (decision 059).
 */
export const TRAINER_FLAGS: readonly string[] = ['--max-semi-space-size=4'];
