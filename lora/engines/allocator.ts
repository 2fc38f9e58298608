/**
 * For the environment of a process that runs graphs, from before it starts; only glibc knows them. An activation is larger
 * than what malloc takes from the heap, so every one would be mapped from the system, zeroed page by page at its first use and
 * given back right after it. With these a process keeps what it has had for the next step, and its peak stays the same.
 * Decision 013 has the figures.
 */
export const GRAPH_PROCESS_ENVIRONMENT: Readonly<Record<string, string>> = {
  GLIBC_TUNABLES: `glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=${2 ** 40}`,
};
