/** Hooks that keep the facts on the page up to date. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { JobEvent } from '../../protocol/api/job-events.ts';
import { type ApiError, get, jobPath, lines } from './api.ts';

/** Time between two requests for the same facts, in milliseconds. Nodes send a heartbeat every 2 s. */
const POLL_MS = 2_000;
/** Time before a broken stream of events is opened again, in milliseconds. */
const REOPEN_MS = 2_000;
/** Time in milliseconds during which events are collected before the page shows all of them together. */
const BATCH_MS = 200;

export interface Polled<T> {
  /** The newest answer; null before the first one. */
  readonly data: T | null;
  /** Reason why the newest request failed; null if it succeeded. */
  readonly error: ApiError | null;
  /** Requests the facts from the daemon at once, for example after an action of the user. */
  refresh(): void;
}

/** Requests facts again and again while the page is visible. The last answer stays while the daemon does not answer. */
export function usePolled<T>(path: string, ms = POLL_MS): Polled<T> {
  const [state, setState] = useState<{ path: string; data: T | null; error: ApiError | null }>({
    path,
    data: null,
    error: null,
  });
  const again = useRef(() => {});
  useEffect(() => {
    const ended = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let running = false;
    const run = async (): Promise<void> => {
      if (running || document.hidden) return;
      running = true;
      clearTimeout(timer);
      try {
        const data = await get<T>(path, ended.signal);
        if (!ended.signal.aborted) setState({ path, data, error: null });
      } catch (error) {
        if (ended.signal.aborted) return;
        setState((before) => ({
          path,
          data: before.path === path ? before.data : null,
          error: error as ApiError,
        }));
      } finally {
        running = false;
      }
      if (!ended.signal.aborted) timer = setTimeout(() => void run(), ms);
    };
    again.current = () => void run();
    const onVisible = (): void => void run();
    document.addEventListener('visibilitychange', onVisible);
    void run();
    return () => {
      ended.abort();
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', onVisible);
    };
  }, [path, ms]);
  const current = state.path === path ? state : { data: null, error: null };
  return { data: current.data, error: current.error, refresh: () => again.current() };
}

/** The newest events of a job, and the error of the stream of events; null while the stream works. */
export interface Followed {
  readonly events: readonly JobEvent[];
  readonly error: ApiError | null;
}

/**
 * Follows the events of a job. A broken stream is opened again after the last event that arrived.
 * @param filter query of the request, for example `last=200` or `types=checkpoint`. null: no events are requested
 * @param keep maximum number of events to keep. The oldest events are dropped
 */
export function useEvents(job: string, filter: string | null, keep: number): Followed {
  const [state, setState] = useState<Followed>({ events: [], error: null });
  useEffect(() => {
    if (filter === null) return;
    const ended = new AbortController();
    let all: JobEvent[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const show = (): void => {
      timer ??= setTimeout(() => {
        timer = undefined;
        setState({ events: all.slice(-keep), error: null });
      }, BATCH_MS);
    };
    setState({ events: [], error: null });
    const follow = async (): Promise<void> => {
      while (!ended.signal.aborted) {
        const after = all.at(-1)?.sequence;
        const query = `${after === undefined ? filter : withoutLast(filter)}&after=${after ?? 0}&follow=1`;
        try {
          for await (const event of lines<JobEvent>(`${jobPath(job)}/events?${query}`, ended.signal)) {
            all.push(event);
            if (all.length > 2 * keep) all = all.slice(-keep);
            show();
          }
        } catch (error) {
          if (ended.signal.aborted) return;
          setState({ events: all.slice(-keep), error: error as ApiError });
          if ((error as ApiError).code === 'UNAUTHORISED') return;
        }
        await new Promise((resolve) => setTimeout(resolve, REOPEN_MS));
      }
    };
    void follow();
    return () => {
      ended.abort();
      clearTimeout(timer);
    };
  }, [job, filter, keep]);
  return state;
}

function withoutLast(filter: string): string {
  return filter
    .split('&')
    .filter((part) => !part.startsWith('last='))
    .join('&');
}
