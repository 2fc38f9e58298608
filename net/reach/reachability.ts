import { isSwarmError } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { Clock } from '../../common/time/clock.ts';
import type { AddressCheck, AddressReach, Reach } from '../../protocol/api/reach.ts';
import { REACH_PORTS } from '../../protocol/limits.ts';
import type { ReachResult } from '../../protocol/requests/reach-request.ts';
import type { RpcRequest, RpcResponse } from '../../protocol/requests/rpc.ts';
import { farthestFirst, ipAndPort, reachOf, sortByReach } from '../addresses.ts';
import type { PeerConnection } from '../network.ts';

/** Time from the start to the first check. By then a node has joined its job, so its coordinator answers it. */
const FIRST_MS = 10_000;
/** Interval of the checks. Addresses, routers and firewalls rarely change. */
const CHECK_MS = 10 * 60_000;
/** Pause after a check in which no peer answered. */
const RETRY_MS = 30_000;
/**
 * Number of peers whose answers make up a check. Several answers show whether one of the peers lies or has a problem.
 */
const ANSWERS = 3;
/** Maximum number of peers that one check asks. It is greater than ANSWERS, because some peers refuse to answer. */
const ASKED = 8;
/** Maximum number of peers whose answers are kept. */
const KEPT = 16;
/** Time after which an answer no longer counts. */
export const CHECK_LIFETIME_MS = 60 * 60_000;
/** Maximum time between the answers of one check, in seconds. */
const SAME_CHECK_S = 60;
/** Maximum number of addresses that are listed although they are not announced. A peer can invent addresses. */
const OBSERVED_ADDRESSES = 4;

export interface ReachabilityDeps {
  clock: Clock;
  log: Logger;
  /** Returns a random number in [0, 1). */
  random: () => number;
  /** Returns our announced addresses, each ending in /p2p/<peer id>. */
  addresses(): string[];
  peers(): PeerConnection[];
  networkOf(peer: string): string;
  request(peer: string, body: RpcRequest<'reach'>): Promise<RpcResponse<'reach'>>;
  /** Returns the IP addresses of a host name. */
  lookup(name: string): Promise<string[]>;
}

/** Answer of a peer to a request `reach`. */
interface Answer {
  readonly peer: string;
  readonly from: Reach;
  /** Time of the answer on the monotonic clock. */
  readonly at: number;
  readonly ip: string;
  readonly results: ReadonlyMap<number, ReachResult>;
}

/** Asks connected peers from time to time to dial this host, and keeps their answers. */
export class Reachability {
  readonly #self: string;
  readonly #deps: ReachabilityDeps;
  /** The newest answer of each peer, oldest first. */
  readonly #answers = new Map<string, Answer>();
  /** The IP addresses of the host names in our announced addresses. */
  #names = new Map<string, readonly string[]>();
  #cancel = (): void => {};
  #stopped = false;

  constructor(options: { self: string }, deps: ReachabilityDeps) {
    this.#self = options.self;
    this.#deps = deps;
  }

  start(): void {
    this.#schedule(FIRST_MS);
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  /** Returns the addresses of this host and the newest results, announced addresses first. */
  view(): AddressReach[] {
    const now = this.#deps.clock.monotonic();
    const answers = [...this.#answers.values()].filter(({ at }) => now - at <= CHECK_LIFETIME_MS);
    const checkOf = ({ peer, from, at, results }: Answer, port: number): AddressCheck[] => {
      const result = results.get(port);
      return result === undefined ? [] : [{ result, peer, from, secondsAgo: (now - at) / 1000 }];
    };
    const announced = this.#deps.addresses();
    const isAnnounced = new Set<string>();
    const known = announced.map((address): AddressReach => {
      const { ips, port } = this.#endpoint(address);
      for (const ip of ips) isAnnounced.add(`${ip} ${port}`);
      const checks = answers.flatMap((one) => (ips.includes(one.ip) ? checkOf(one, port) : []));
      return { address, announced: true, reach: reachOf(address), check: best(checks) };
    });
    const seen = new Map<string, { address: string; checks: AddressCheck[] }>();
    for (const one of answers) {
      for (const port of one.results.keys()) {
        const key = `${one.ip} ${port}`;
        if (isAnnounced.has(key)) continue;
        const address = `/${one.ip.includes(':') ? 'ip6' : 'ip4'}/${one.ip}/tcp/${port}/p2p/${this.#self}`;
        const { checks } = seen.get(key) ?? { checks: [] };
        seen.set(key, { address, checks: [...checks, ...checkOf(one, port)] });
      }
    }
    const observed = [...seen.values()].slice(0, OBSERVED_ADDRESSES).map(
      ({ address, checks }): AddressReach => ({
        address,
        announced: false,
        reach: reachOf(address),
        check: best(checks),
      }),
    );
    return [...known, ...observed];
  }

  /** Asks peers to dial this host. Returns the number of answers. Never rejects. */
  async check(): Promise<number> {
    const { log } = this.#deps;
    await this.#resolveNames();
    const ports = this.#ports();
    if (ports.length === 0) return 0;
    let answers = 0;
    for (const { peer, address } of this.#candidates()) {
      if (answers === ANSWERS || this.#stopped) break;
      try {
        this.#keep(peer, address, await this.#deps.request(peer, { ports }));
        answers++;
      } catch (error) {
        // Another peer may answer. Peers refuse if they do not know this host, and peers of older versions have no such
        // method.
        log.debug({ peer, error }, 'reach-not-checked');
        if (!isSwarmError(error)) break;
      }
    }
    return answers;
  }

  #schedule(ms: number): void {
    if (this.#stopped) return;
    const { clock, random } = this.#deps;
    // Jitter, so that the machines behind one router do not ask at the same time.
    this.#cancel = clock.after(ms * (0.75 + random() / 2), () => {
      void this.check().then((answers) => this.#schedule(answers > 0 ? CHECK_MS : RETRY_MS));
    });
  }

  /**
   * Returns the peers to ask: first one peer of each network, and then all further peers. In each of these two groups,
   * the most distant peers come first, and the order is otherwise random.
   */
  #candidates(): PeerConnection[] {
    const { peers, networkOf, random } = this.#deps;
    const shuffled = peers()
      .map((one) => ({ one, order: random() }))
      .sort((a, b) => a.order - b.order)
      .map(({ one }) => one);
    const networks = new Set<string>();
    const isFirst = new Map(
      shuffled.map(({ peer }) => {
        const network = networkOf(peer);
        const first = !networks.has(network);
        networks.add(network);
        return [peer, first];
      }),
    );
    const rank = ({ peer, address }: PeerConnection): number =>
      farthestFirst.indexOf(reachOf(address)) + (isFirst.get(peer) ? 0 : farthestFirst.length);
    return shuffled.sort((a, b) => rank(a) - rank(b)).slice(0, ASKED);
  }

  /** Returns the ports of our addresses; the ports of public addresses come first. */
  #ports(): number[] {
    const ports = sortByReach(this.#deps.addresses()).map((address) => ipAndPort(address).port);
    return [...new Set(ports)].filter((port) => port > 0).slice(0, REACH_PORTS);
  }

  #keep(peer: string, address: string, { ip, results }: RpcResponse<'reach'>): void {
    const asked = this.#ports();
    const theirs = ipAndPort(address).host;
    const seen = reachOf(address);
    // A peer behind the same router can have our public address. Its dial does not show what others can reach.
    const from = seen === 'internet' && theirs === ip ? 'local network' : seen;
    this.#answers.delete(peer);
    this.#answers.set(peer, {
      peer,
      from,
      at: this.#deps.clock.monotonic(),
      ip,
      results: new Map(
        results.filter(({ port }) => asked.includes(port)).map(({ port, result }) => [port, result]),
      ),
    });
    if (this.#answers.size > KEPT) this.#answers.delete(this.#answers.keys().next().value!);
  }

  #endpoint(address: string): { ips: readonly string[]; port: number } {
    const { host, isName, port } = ipAndPort(address);
    return { ips: isName ? (this.#names.get(host) ?? []) : [host], port };
  }

  async #resolveNames(): Promise<void> {
    const names = this.#deps
      .addresses()
      .map(ipAndPort)
      .filter(({ isName }) => isName);
    const resolved = names.map(async ({ host }): Promise<[string, string[]]> => {
      // If a name cannot be resolved, `view` shows its address without a check.
      return [host, await this.#deps.lookup(host).catch(() => [])];
    });
    this.#names = new Map(await Promise.all(resolved));
  }
}

/**
 * Returns the most informative check. A check by a more distant peer comes first. Of the newest checks at one distance, a
 * success comes before a failure, because a dial can fail for many reasons. An older success does not hide a new failure.
 */
function best(checks: readonly AddressCheck[]): AddressCheck | null {
  const distance = ({ from }: AddressCheck): number => farthestFirst.indexOf(from);
  const [newest = null] = checks.toSorted((a, b) => distance(a) - distance(b) || a.secondsAgo - b.secondsAgo);
  const success = checks.find(
    ({ from, result, secondsAgo }) =>
      from === newest!.from && result === 'reached' && secondsAgo - newest!.secondsAgo < SAME_CHECK_S,
  );
  return success ?? newest;
}
