import { isSwarmError } from '../../common/errors.ts';
import type { GossipVerdict } from '../../net/network.ts';
import { isNewer } from '../../protocol/job/head-order.ts';
import { jobTopic } from '../../protocol/job/topics.ts';
import type { Head } from '../../protocol/messages.ts';
import { errorFields } from '../errors.ts';
import type { ContactPort } from './port.ts';
import { verifyHead } from './requests.ts';

/** Maximum of the random pause before a node asks for a new key, in milliseconds. */
const RENEW_JITTER_MS = 500;

interface HeadGossipDeps {
  readonly context: ContactPort;
  /** Returns the newest head that the node knows. */
  readonly newest: () => Head | null;
  readonly onHead: (head: Head) => void;
  /** Asks the coordinator for the newest keys and head of the job. */
  readonly renewKeys: () => Promise<void>;
  /** Runs a task, and logs its failure. */
  readonly tasks: { run(name: string, task: () => Promise<unknown>): void };
}

/** Receives the encrypted heads of one job over gossip. */
export class HeadGossip {
  readonly #deps: HeadGossipDeps;
  /** Stops receiving heads. */
  readonly stop: () => void;
  /** Whether the node is about to ask for newer job keys. */
  #renewing = false;

  constructor(deps: HeadGossipDeps) {
    this.#deps = deps;
    const { job, coordinator, deps: world } = deps.context;
    this.stop = world.network.subscribe(jobTopic(job, 'heads'), ({ data }) => this.#receive(data), {
      admits: (author) => author === coordinator,
    });
  }

  /** Returns the verdict on a gossip message. Only a newer head is forwarded to other peers. */
  #receive(data: Uint8Array): GossipVerdict {
    const { context, newest, onHead } = this.#deps;
    const bytes = this.#decrypt(data);
    if (bytes === null) return 'ignore';
    try {
      const head = verifyHead(bytes, context);
      const newer = isNewer(head, newest());
      if (newer) context.deps.store.kept.keepHead(context.job, head, bytes);
      onHead(head);
      return newer ? 'accept' : 'ignore';
    } catch (error) {
      if (!isSwarmError(error)) throw error;
      context.deps.log.debug(errorFields(error), 'head-refused');
      return 'reject';
    }
  }

  /**
   * Decrypts a head. If the node's keys cannot decrypt it, returns null, and asks for newer keys if newer
   * keys may help.
   */
  #decrypt(data: Uint8Array): Uint8Array | null {
    const { keys, deps } = this.#deps.context;
    try {
      const read = keys.read(data);
      if (typeof read !== 'string') return read;
      if (read === 'unknown') this.#renewLater();
    } catch (error) {
      if (!isSwarmError(error, 'HEAD_UNREADABLE')) throw error;
      deps.log.warn(errorFields(error), 'head-unreadable');
      this.#renewLater();
    }
    return null;
  }

  /** Asks for newer keys after a random time, so that the nodes of a job do not all ask at once. */
  #renewLater(): void {
    if (this.#renewing) return;
    this.#renewing = true;
    const { clock, random } = this.#deps.context.deps;
    clock.after(random() * RENEW_JITTER_MS, () => {
      this.#deps.tasks.run('renew-keys', () =>
        this.#deps.renewKeys().finally(() => {
          this.#renewing = false;
        }),
      );
    });
  }
}
