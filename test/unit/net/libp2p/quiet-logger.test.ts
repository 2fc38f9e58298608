import { expect, it } from 'vitest';
import { quietLogger } from '../../../../net/libp2p/quiet-logger.ts';

it('is one logger for all connections and streams, so that they take no memory for loggers', () => {
  const log = quietLogger.forComponent('connection');
  expect(log.newScope('1').newScope('stream')).toBe(log);
  expect(log.enabled).toBe(false);
});
