import { z } from 'zod';
import { REACH_PORTS } from '../limits.ts';

const portSchema = z.int().min(1).max(65_535);

/** All results of a dial. The type ReachResult explains them. */
export const reachResults = [
  'reached',
  'refused',
  'timeout',
  'unroutable',
  'other-peer',
  'hung-up',
  'failed',
] as const;
/**
 * Result of one dial:
 * - `reached`: the caller answered, and proved its identity
 * - `refused`: the machine at the address refused the connection
 * - `timeout`: no answer arrived in time, for example because of a firewall or a router that forwards no port
 * - `unroutable`: there is no route to the address
 * - `other-peer`: another peer answered
 * - `hung-up`: the connection was closed before the handshake was complete
 * - `failed`: the dial failed for another reason
 */
export type ReachResult = (typeof reachResults)[number];

export const reachRequestSchema = z.strictObject({ ports: z.array(portSchema).min(1).max(REACH_PORTS) });

export const reachAnswerSchema = z.strictObject({
  /** IP address from which the caller is connected to the callee, as the callee sees it. */
  ip: z.union([z.ipv4(), z.ipv6()]),
  /** Result for each port, without duplicates. */
  results: z.array(z.strictObject({ port: portSchema, result: z.enum(reachResults) })).max(REACH_PORTS),
});
